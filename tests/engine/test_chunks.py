"""Vectors of chunks, and of texts longer than the model may read, through a tiny real model."""

import asyncio
import warnings
from dataclasses import replace

import numpy as np
import pytest

from echo_embeddings import (
    ConfigError,
    EchoConfig,
    EchoEncoder,
    Lexical,
    NumericalError,
    Standardize,
    Template,
    TruncationWarning,
)
from echo_embeddings.engine import readout
from echo_embeddings.errors import InputError
from echo_embeddings.text.stretches import for_tokens, overlapping, side_by_side
from echo_embeddings.vectors.normalize import unit
from tests.architectures import small_tokenizer, tiny
from tests.conftest import TEXTS, cosines

TEXT = "The ferry leaves the island at dawn. It is late today. Bread rises faster in a warm room, says the baker."
SPANS = [(0, 36), (37, 54), (55, 105)]
TOKENIZER = small_tokenizer([TEXT, *TEXTS])
LEXICAL = Lexical(np.random.default_rng(0).random(256).astype(np.float32), blocks=(8, 24))
CONFIGS = {
    "echo": EchoConfig("Rewrite: {text}\nRewritten: {text}"),
    "late": EchoConfig("{text}\n{text}", start_layer=2, exit_layer=5),
    "classical": EchoConfig("{text}"),
    "last": EchoConfig("{text}\n{text}", pooling="last"),
    "weighted": EchoConfig("{text}\n{text}", start_layer=3, pooling="weighted_mean"),
    "words": EchoConfig(
        "{text}\n{text}",
        start_layer=2,
        transforms=(Standardize(np.linspace(-1, 1, 32), np.linspace(1, 2, 32)),),
        lexical=LEXICAL,
    ),
}


def encoder(config="late", **more):
    config = CONFIGS[config] if isinstance(config, str) else config
    return EchoEncoder(
        tiny("llama", max_position_embeddings=1024), config, tokenizer=TOKENIZER, dtype="float32", **more
    )


def expected(of, text, spans):
    """The mean of the states of each chunk's tokens, mapped, with its words; from ``states``, not from chunks."""
    runtime, template = of.runtime, of.config.templates[0]
    plain = of.with_config(of.config.replace(transforms=(), lexical=None))
    (content,) = runtime.tokenizer.contents([text], spaced=template.spaced)
    tokens = plain.runtime.token_vectors([text], [content], runtime.layout(template), "document")[0]
    rows = []
    for start, end in spans:
        own = [i for i, (a, b) in enumerate(tokens.offsets) if a < end and start < b]
        ids = content.ids[own]
        states = tokens.vectors[own].mean(axis=0, keepdims=True)
        rows.append(runtime.finished(states, runtime.words([ids], "document"))[0])
    return unit(np.stack(rows))


# --- chunks that fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["echo", "late", "classical", "words"])
def test_a_chunk_is_pooled_from_its_own_tokens(name):
    of = encoder(name)
    found = of.encode_chunks(TEXT, SPANS)
    assert found.dtype == np.float32
    assert found.shape == (3, of.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert cosines(found, expected(of, TEXT, SPANS)).min() > 0.99999


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("max_length", [512, 20])
def test_a_chunk_that_is_the_document_has_its_vector(name, max_length):
    of = encoder(name, max_length=max_length)
    texts = [TEXT[:20], "A", ""] if max_length == 20 else [TEXT, *TEXTS, "", " "]
    assert max(of.count_tokens(texts)) <= max_length
    found = of.encode_chunks(texts, lambda text: [(0, len(text))])
    assert cosines(np.concatenate(found), of.encode_documents(texts)).min() > 0.99999


def test_the_context_of_a_chunk_is_in_its_vector():
    chunk = TEXT[37:54]
    for name, sees in (("echo", True), ("late", True), ("classical", False)):
        of = encoder(name)
        in_context, other, behind = (
            of.encode_chunks(text, [(text.index(chunk), text.index(chunk) + len(chunk))])
            for text in (
                TEXT,
                f"A dog barks. {chunk} Bread rises.",
                f"The ferry leaves the island at dawn. {chunk} No.",
            )
        )
        assert cosines(in_context, of.encode_documents([chunk]))[0] < 0.9999
        assert cosines(in_context, other)[0] < 0.9999
        assert (cosines(in_context, behind)[0] < 0.99999) == sees  # classical sees only what stands before


def test_many_documents_are_like_each_alone():
    of = encoder("words", batch_tokens=300)
    documents = [TEXT, "", *TEXTS, TEXT]
    spans = [SPANS, [], *([(0, len(text) // 2), (len(text) // 2, len(text))] for text in TEXTS), SPANS[:1]]
    found = of.encode_chunks(documents, spans)
    assert [one.shape for one in found] == [(len(own), of.dimension) for own in spans]
    for text, own, rows in zip(documents, spans, found, strict=True):
        assert cosines(rows, of.encode_chunks(text, own)).min(initial=1) > 0.99999
    assert of.encode_chunks([], lambda _: []) == []


def test_overlapping_and_unordered_spans_have_the_same_vectors_as_others():
    of = encoder()
    plain = of.encode_chunks(TEXT, SPANS)
    mixed = of.encode_chunks(TEXT, [SPANS[2], (0, 105), (5, 50), SPANS[0], SPANS[2], SPANS[1]])
    assert cosines(mixed[[3, 5, 0]], plain).min() > 0.99999
    np.testing.assert_array_equal(mixed[0], mixed[4])
    assert cosines(mixed[[1, 2]], expected(of, TEXT, [(0, 105), (5, 50)])).min() > 0.99999


def test_a_chunk_without_tokens_has_the_vector_of_an_empty_text():
    for name in ("late", "words", "last"):
        of = encoder(name)
        found = of.encode_chunks([TEXT, ""], [[(4, 4), SPANS[0]], [(0, 0), (0, 0)]])
        empty = of.encode_documents([""])
        assert cosines(found[0][:1], empty)[0] > 0.99999
        assert cosines(found[1], empty).min() > 0.99999
        assert cosines(found[0][1:], of.encode_chunks(TEXT, SPANS[:1]))[0] > 0.99999


def test_words_are_those_of_the_chunk():
    of = encoder("words")
    chunk = of.encode_chunks(TEXT, SPANS[:1])[0]
    words = np.concatenate([chunk[8:16], chunk[40:]])  # behind the first block of the echo, and behind the rest of it
    alone = LEXICAL.vectors([" " + TEXT[:36]])[0]
    assert cosines(unit(words)[None], alone[None])[0] > 0.99999


def test_dimensions_hold_for_chunks_and_tokens():
    whole, short = encoder("words"), encoder("words", dimensions=20)
    found = short.encode_chunks(TEXT, SPANS)
    assert found.shape == (3, 20)
    assert cosines(found, unit(whole.encode_chunks(TEXT, SPANS)[:, :20])).min() > 0.99999
    tokens, long = short.encode_tokens([TEXT, "A"]), whole.encode_tokens([TEXT, "A"])
    for one, other in zip(tokens, long, strict=True):
        assert cosines(one.vectors, unit(other.vectors[:, :20])).min() > 0.99999


def test_tokens_of_queries_go_through_their_template():
    of = encoder(CONFIGS["words"].replace(query_template="Find: {text}\nFind: {text}"))
    runtime, template = of.runtime, of.config.templates[1]
    found = of.encode_tokens([TEXT, "A"], role="query")
    contents, layout = runtime.contents([TEXT, "A"], template, None), runtime.layout(template)
    wanted = runtime.token_vectors([TEXT, "A"], contents, layout, "query")
    for one, other in zip(found, wanted, strict=True):
        assert cosines(one.vectors, unit(other.vectors)).min() > 0.99999
    assert cosines(found[0].vectors, of.encode_tokens(TEXT).vectors).max() < 0.9999
    with pytest.raises(ConfigError, match="role='passage' is unknown; choose document or query"):
        of.encode_tokens("A", role="passage")


def test_a_stream_of_documents_equals_the_list():
    of = encoder()
    documents = [TEXT, *TEXTS, TEXT]
    spans = [[(0, len(text))] * (1 + i % 3) for i, text in enumerate(documents)]
    taken = []

    def source():
        for text in documents:
            taken.append(text)
            yield text

    stream = of.stream_chunks(source(), iter(spans), at_once=2)
    first = next(stream)
    assert len(taken) == 2
    for found, wanted in zip([first, *stream], of.encode_chunks(documents, spans), strict=True):
        assert cosines(found, wanted).min() > 0.99999
    whole = list(of.stream_chunks(documents, lambda text: [(0, len(text))]))
    assert cosines(np.concatenate(whole), of.encode_documents(documents)).min() > 0.99999


def test_progress_counts_documents():
    counted = []
    documents = [TEXT * 3, "", "A", TEXT]
    encoder(max_length=30, batch_tokens=100).encode_chunks(
        documents, [SPANS, [], [(0, 1)], SPANS], show_progress=counted.append
    )
    assert sum(counted) == 4
    counted.clear()
    encoder(max_length=30, batch_tokens=100, on_truncate="split").encode_documents(
        documents, show_progress=counted.append
    )
    assert sum(counted) == 4


def test_token_states_of_a_long_document_are_kept_for_one_batch(monkeypatch):
    """Memory grows with a batch and not with the document: each batch is pooled before the next runs."""
    seen = []

    def pool_packed(pool, hidden, places, counts):
        seen.append(hidden.shape[1])
        return original(pool, hidden, places, counts)

    original = readout.pool_packed
    monkeypatch.setattr(readout, "pool_packed", pool_packed)
    of = encoder(max_length=30, batch_tokens=300)
    text = TEXT * 20
    assert of.count_tokens(text)[0] > 1000
    of.encode_chunks(text, [(start, start + 50) for start in range(0, len(text), 50)])
    assert len(seen) > 5
    assert max(seen) <= 300


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_errors_name_the_span():
    of = encoder()
    with pytest.raises(TypeError, match="pass list.texts., or give it to stream_chunks$"):
        of.encode_chunks((text for text in ["A"]), [[(0, 1)]])
    with pytest.raises(InputError, match=r"chunks\[1\]\[0\] is \(0, 2\), which is no part of the document 'A'"):
        of.encode_chunks(["A", "A"], [[], [(0, 2)]])
    with pytest.raises(InputError, match=r"chunks\[1\] is \(9, 3\)"):
        of.encode_chunks(TEXT, [(0, 3), (9, 3)])
    with pytest.raises(InputError, match=r"chunks\[2\]\[0\] is \(0, 9\)"):
        list(of.stream_chunks(["A"] * 3, [[(0, 1)], [(0, 1)], [(0, 9)]], at_once=2))
    with pytest.raises(InputError, match=r"spans of 1 document\(s\), and there are 2"):
        list(of.stream_chunks(["A"] * 2, [[(0, 1)]]))
    with pytest.raises(InputError, match=r"spans of 3 document\(s\), and there are 4"):  # of all, not of some at once
        list(of.stream_chunks(["A"] * 4, [[(0, 1)]] * 3, at_once=2))
    with pytest.raises(ConfigError, match="at_once=0: give a whole number of at least 1"):
        of.stream_chunks(["A"], lambda _: [], at_once=0)
    with pytest.raises(ConfigError, match=r"at_once='8': give a whole number of at least 1"):
        of.stream_chunks(["A"], lambda _: [], at_once="8")
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        of.encode_chunks(["A", None], lambda _: [])
    for call in (of.encode_chunks, of.stream_chunks):
        with pytest.raises(TypeError, match=r"chunks must be a function .* not int; for a splitter .*spans_of"):
            call(["A"], 5)
    with pytest.raises(TypeError, match=r"chunks must be a function .* not NoneType"):
        of.encode_chunks("A", None)


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_spans_that_go_on_after_the_documents_of_a_stream_are_refused(at_once):
    """They belong to documents that are missing; ``encode_chunks`` refuses them too."""
    stream = encoder().stream_chunks(["A", "A"], [[(0, 1)], [], [(0, 1)]], at_once=at_once)
    assert [next(stream).shape[0], next(stream).shape[0]] == [1, 0]
    with pytest.raises(InputError, match="spans of more documents than the 2 that there are"):
        next(stream)


def test_a_config_that_pools_behind_the_text_is_refused():
    of = encoder(EchoConfig(Template('{text} means "', pool_tail=True), pooling="last"))
    with pytest.raises(ConfigError, match=r"pools what follows the text .*pool_tail=True.* such as 'echo'"):
        of.encode_chunks(TEXT, SPANS)
    with pytest.raises(ConfigError, match="pools what follows the text"):
        of.stream_chunks(iter([TEXT]), [SPANS])  # at once, and not at the first document
    assert of.encode_documents(TEXT).shape == (32,)


def test_states_that_are_no_numbers_name_the_document():
    model = tiny("llama")
    bad = TOKENIZER("B", add_special_tokens=False).input_ids[-1]
    model.embed_tokens.weight.data[bad] = float("nan")
    of = EchoEncoder(model, CONFIGS["late"], tokenizer=TOKENIZER, dtype="float32")
    with pytest.raises(NumericalError, match=r"NaN or infinity for 3 of 4 chunks, among them 'The ferry"):
        of.encode_chunks(["A", TEXT], [[(0, 1)], SPANS])


# --- documents that do not fit ----------------------------------------------------------------------------------------


def states_of(of, text):
    """The states of each token, from one pass over each stretch alone, put together by hand."""
    runtime, layout = of.runtime, of.runtime.layout(of.config.templates[0])
    (content,) = runtime.tokenizer.contents([text], spaced=False)
    limit = of.max_length
    states = np.empty((len(content.ids), 32), np.float32)
    for one in for_tokens([content], limit):
        (part,) = one.parts
        found = runtime.token_vectors(["x" * 999], [one.content], layout, "document")[0].vectors
        states[one.first + part.first : one.first + part.stop] = found[part.first : part.stop]
    return content, states


@pytest.mark.parametrize("name", ["echo", "late"])
def test_a_long_document_is_read_in_overlapping_stretches(name):
    of = encoder(CONFIGS[name], max_length=40)
    text = " ".join(TEXTS[0] + f" {i}." for i in range(12))
    (count,) = of.count_tokens(text)
    stretches = overlapping(count, 40)
    assert len(stretches) > 5
    tokens = of.with_config(of.config.replace(max_length=9999)).runtime.tokenizer.offsets(text, spaced=name == "echo")
    start, stop = stretches[3]
    span = (int(tokens[start + 15][0]), int(tokens[stop - 16][1]))
    (inside,) = of.encode_chunks(text, [span])
    alone = of.runtime
    layout = alone.layout(of.config.templates[0])
    (content,) = alone.tokenizer.contents([text], spaced=of.config.templates[0].spaced)
    some = replace(content, ids=content.ids[start:stop])
    states = alone.token_vectors(["x" * 99], [some], layout, "document")[0].vectors[15 : stop - start - 15]
    assert cosines(unit(states.mean(0)[None]), inside[None])[0] > 0.99999


def test_a_chunk_longer_than_a_stretch_is_pooled_over_all_its_tokens():
    of = encoder(max_length=24)
    text = TEXT * 3
    _, states = states_of(of, text)
    (found,) = of.encode_chunks(text, [(0, len(text))])
    assert cosines(unit(states.mean(0)[None]), found[None])[0] > 0.99999
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is truncated
        assert of.encode_chunks(text, [(0, 9), (len(text) - 9, len(text))]).shape == (2, 32)
    assert of.truncated.texts == 0


def test_tokens_of_a_long_text_under_split():
    of = encoder(max_length=24, on_truncate="split")
    text = TEXT * 3
    content, states = states_of(of, text)
    found = of.encode_tokens([text, "A"])
    assert len(found[0].tokens) == len(found[0].offsets) == len(content.ids)
    assert cosines(found[0].vectors, unit(states)).min() > 0.99999
    assert cosines(found[1].vectors, encoder().encode_tokens("A").vectors).min() > 0.99999


# --- one vector for a long text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_split_text_is_the_mean_of_its_stretches_by_tokens(name):
    of = encoder(name, max_length=24, on_truncate="split")
    plain = of.with_config(of.config.replace(transforms=(), lexical=None))
    text, spaced = TEXT * 2, of.config.templates[0].spaced
    (content,) = of.runtime.tokenizer.contents([text], spaced=spaced)
    layout = of.runtime.layout(of.config.templates[0])
    ranges = side_by_side(len(content.ids), 24)
    assert len(ranges) > 2
    pieces = [replace(content, ids=content.ids[start:stop]) for start, stop in ranges]
    states = plain.runtime.states([""] * len(pieces), pieces, layout)
    mean = np.average(states, axis=0, weights=[stop - start for start, stop in ranges])[None].astype(np.float32)
    wanted = unit(of.runtime.finished(mean, of.runtime.words([content.ids], "document")))
    assert cosines(of.encode_documents([text]), wanted)[0] > 0.99999
    if not of.config.tells_roles_apart:
        assert cosines(of.encode_queries([text]), wanted)[0] > 0.99999
        assert cosines(asyncio.run(of.aencode_queries(text))[None], wanted)[0] > 0.99999
    assert of.truncated.texts == of.truncated.tokens == 0


def test_texts_that_fit_are_bit_equal_under_split():
    texts = [*TEXTS[:4], "", "A"]
    for name in ("late", "last", "words"):
        plain, splits = encoder(name, max_length=130), encoder(name, max_length=130, on_truncate="split")
        np.testing.assert_array_equal(plain.encode_documents(texts), splits.encode_documents(texts))
        np.testing.assert_array_equal(plain.encode_queries(texts), splits.encode_queries(texts))
    beside = splits.encode_documents([*texts, TEXT * 4])
    assert cosines(beside[:-1], plain.encode_documents(texts)).min() > 0.99999


def test_the_fingerprint_says_that_texts_are_split():
    plain, splits = encoder(), encoder(on_truncate="split")
    assert plain.fingerprint() != splits.fingerprint()
    assert plain.fingerprint() == encoder(on_truncate="ignore").fingerprint()


def test_a_warning_says_how_to_have_all_of_a_text_read():
    with pytest.warns(TruncationWarning, match="have all of it read with on_truncate='split', raise max_length"):
        encoder(max_length=5).encode_documents(TEXT)


# --- as much as fits the context --------------------------------------------------------------------------------------


def test_max_length_context_reads_as_much_as_fits():
    of = encoder("late", max_length="context")
    assert of.config.max_length == "context"
    assert of.max_length == (1024 - 1) // 2
    with pytest.warns(TruncationWarning, match=r"to 511 tokens, which is what fits the model's context"):
        long = of.encode_documents([TEXT * 12])
    assert (
        cosines(long, encoder("late", max_length=511, on_truncate="ignore").encode_documents([TEXT * 12]))[0] > 0.9999
    )
    assert of.config == CONFIGS["late"].replace(max_length="context")


def test_a_model_that_does_not_say_its_context_needs_a_number(monkeypatch):
    of = encoder(max_length="context")
    monkeypatch.setattr(of.runtime._layouts, "_context", None)
    with pytest.raises(ConfigError, match=r"max_length='context': .* does not say how long .* give the number"):
        of.encode_documents("A")
    with pytest.raises(ConfigError, match="max_length='contxt': give a whole number of at least 1, or 'context'"):
        encoder(max_length="contxt")
