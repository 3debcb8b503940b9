"""The encoder on the real built-in model."""

import asyncio
import io
import pickle
import threading
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import (
    ConfigError,
    DimensionsWarning,
    EchoConfig,
    EchoEncoder,
    Embedder,
    ModelError,
    NumericalError,
    Standardize,
    Truncate,
    TruncationError,
    TruncationWarning,
    WindowWarning,
)
from echo_embeddings.config.recipes import Facts, recipe_for
from echo_embeddings.model import builtin
from echo_embeddings.model.device import pick_device
from echo_embeddings.vectors.normalize import unit
from tests.architectures import tiny
from tests.conftest import cosines

# --- shapes, order, batches -------------------------------------------------------------------------------------------


def test_vectors_are_float32_and_of_unit_length(builtin_encoder, texts):
    vectors = builtin_encoder.encode_documents(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), builtin_encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_one_text_gives_one_row_and_none_gives_none(builtin_encoder):
    assert builtin_encoder.encode_documents("a text").shape == (builtin_encoder.dimension,)
    assert builtin_encoder.encode_queries([]).shape == (0, builtin_encoder.dimension)


def test_a_text_has_the_same_vector_alone_and_in_a_batch(float32_encoder, texts):
    together = float32_encoder.encode_documents(texts)
    alone = np.stack([float32_encoder.encode_documents(text) for text in texts])
    assert cosines(together, alone).min() >= 0.99999


def test_so_it_has_in_bf16(texts, builtin_folder):
    encoder, texts = EchoEncoder(dtype="bfloat16"), texts[:2]  # a processor without bf16 takes ten times as long
    together = encoder.encode_documents(texts)
    alone = np.stack([encoder.encode_documents(text) for text in texts])
    assert cosines(together, alone).min() >= 0.999


def test_order_is_kept_and_identical_texts_are_computed_once(float32_encoder, texts):
    doubled = texts + texts[::-1]
    vectors = float32_encoder.encode_documents(doubled)
    np.testing.assert_array_equal(vectors[: len(texts)], vectors[len(texts) :][::-1])


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\ud800", "a\0b", "\u202eabc", "👩‍👩‍👧", "مرحبا", "日本"])
def test_odd_texts_have_a_vector_always_the_same(builtin_encoder, text):
    vector = builtin_encoder.encode_documents(text)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(vector, builtin_encoder.encode_documents(text))


def test_a_megabyte_of_text(builtin_encoder):
    encoder = builtin_encoder.with_config(builtin_encoder.config.replace(max_length=64))
    with pytest.warns(TruncationWarning, match="1 text"):
        assert np.isfinite(encoder.encode_documents("many words " * 90_000)).all()


def test_any_sequence_of_strings_will_do(builtin_encoder):
    expected = builtin_encoder.encode_documents(["a", "b"])
    np.testing.assert_array_equal(builtin_encoder.encode_documents(("a", "b")), expected)
    np.testing.assert_array_equal(builtin_encoder.encode_documents(np.array(["a", "b"])), expected)


ENTRY_POINTS = {
    "documents": EchoEncoder.encode_documents,
    "queries": EchoEncoder.encode_queries,
    "documents awaited": lambda encoder, texts: asyncio.run(encoder.aencode_documents(texts)),
    "queries awaited": lambda encoder, texts: asyncio.run(encoder.aencode_queries(texts)),
    "documents streamed": EchoEncoder.stream_documents,
    "queries streamed": EchoEncoder.stream_queries,
    "tokens": EchoEncoder.encode_tokens,
    "counts": EchoEncoder.count_tokens,
    "fit": EchoEncoder.fit_transforms,
}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_no_way_in_takes_a_container_apart(late_encoder, name):
    for texts in (
        pd.DataFrame({"text": ["a"]}),
        {"a": "b"},
        {"a", "b"},
        np.array([["a"]]),
        io.StringIO("a"),
        None,
        b"a",
    ):
        with pytest.raises(TypeError, match=f"texts must be .* not {type(texts).__name__}; "):
            ENTRY_POINTS[name](late_encoder, texts)


def test_a_column_is_embedded_in_its_order(late_encoder):
    expected = late_encoder.encode_documents(["a", "b"])
    for texts in (pd.Series(["a", "b"], index=[1, 0]), pa.chunked_array([["a"], ["b"]]), np.array(["a", "b"], object)):
        np.testing.assert_array_equal(late_encoder.encode_documents(texts), expected)
        np.testing.assert_array_equal(np.stack(list(late_encoder.stream_documents(texts, chunk=2))), expected)
    with pytest.raises(TypeError, match="not generator; pass list"):
        late_encoder.encode_documents(text for text in "ab")
    np.testing.assert_array_equal(np.stack(list(late_encoder.stream_documents(iter(["a", "b"])))), expected)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None], r"texts\[1\] is NoneType \(None\), not a string; drop it or turn it into one"),
        (["a", "b", 3.5], r"texts\[2\] is float \(3.5\)"),
        ([b"a"], r"texts\[0\] is bytes"),
        (b"a", "texts must be a string or a list of strings, not bytes"),
        (None, "texts must be a string or a list of strings, not NoneType"),
        (7, "not int"),
        ({"a": 1}, "not dict"),
    ],
)
def test_what_is_no_text_is_a_type_error_that_names_it(builtin_encoder, texts, message):
    with pytest.raises(TypeError, match=message):
        builtin_encoder.encode_documents(texts)


def test_a_progress_bar_counts_all_texts(builtin_encoder, capsys):
    builtin_encoder.encode_documents(["a", "b", "a"], show_progress=True)
    assert "3/3" in capsys.readouterr().err


def test_progress_can_be_a_function(builtin_encoder):
    counts = []
    builtin_encoder.encode_queries(["a", "b", "a"], show_progress=counts.append)
    assert sum(counts) == 3


# --- the claim of the paper -------------------------------------------------------------------------------------------

EARLY = "The bank"
PAIR = [f"{EARLY} of the river was covered with reeds", f"{EARLY} of the river was covered with money"]


def first_word(encoder):
    return [encoder.encode_tokens(text).vectors[:2] for text in PAIR]


@pytest.mark.parametrize("preset", ["echo", "late-echo"])
def test_under_echo_early_words_know_of_later_ones(preset):
    one, other = first_word(EchoEncoder(config=preset, dtype="float32"))
    assert np.abs(one - other).max() > 1e-3


def test_under_classical_they_do_not():
    one, other = first_word(EchoEncoder(config="classical", dtype="float32"))
    np.testing.assert_array_equal(one, other)


# --- roles ------------------------------------------------------------------------------------------------------------


def test_queries_and_documents_have_their_own_templates(late_encoder):
    config = late_encoder.config.replace(query_template="Question: {text}\nThe question again: {text}")
    encoder = late_encoder.with_config(config)
    text = "when does the ferry leave"
    assert encoder.similarity(encoder.encode_queries(text), encoder.encode_documents(text)) < 0.999
    np.testing.assert_array_equal(encoder.encode_documents(text), late_encoder.encode_documents(text))


def test_an_instruction_changes_the_vector(late_encoder):
    encoder = late_encoder.with_config(EchoConfig("{text}\n{text}", "{instruction}: {text}\nAgain: {text}"))
    one = encoder.encode_queries("a question", instruction="Find the answer")
    other = encoder.encode_queries("a question", instruction="Find a duplicate")
    assert encoder.similarity(one, other) < 0.9999
    with pytest.raises(ConfigError, match="needs an instruction"):
        encoder.encode_queries("a question")


def test_an_instruction_without_a_place_is_an_error(late_encoder):
    with pytest.raises(ConfigError, match="instruction 'Find' was given, but template"):
        late_encoder.encode_queries("a", instruction="Find")


# --- truncation -------------------------------------------------------------------------------------------------------


def short(late_encoder, **more):
    return EchoEncoder(config=late_encoder.config.replace(max_length=8), **more)


LONG = "one two three four five six seven eight nine ten"


def test_truncation_warns_with_numbers_at_the_callers_line(late_encoder):
    encoder = short(late_encoder)
    with pytest.warns(TruncationWarning, match=r"1 text\(s\) were truncated to max_length=8 tokens; 2 tokens") as seen:
        encoder.encode_documents([LONG, "short"])
    assert (seen[0].message.texts, seen[0].message.tokens) == (1, 2)
    assert seen[0].filename == __file__
    assert (encoder.truncated.texts, encoder.truncated.tokens) == (1, 2)


def test_truncation_can_be_an_error(late_encoder):
    encoder = short(late_encoder, on_truncate="error")
    message = r"1 text\(s\) are longer than max_length=8 tokens; the first has 10: 'one two .* Split it"
    with pytest.raises(TruncationError, match=message) as caught:
        encoder.encode_documents(["short", LONG])
    assert (caught.value.texts, caught.value.tokens) == (1, 2)


def test_truncation_can_be_ignored_and_is_still_counted(late_encoder):
    encoder = short(late_encoder, on_truncate="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_documents([LONG])
        list(encoder.stream_documents([LONG]))
    assert encoder.truncated.texts == 2


def test_a_cut_text_is_read_like_its_beginning(late_encoder):
    encoder = short(late_encoder, on_truncate="ignore")
    cut, beginning = encoder.encode_documents([LONG, "one two three four five six seven eight"])
    assert cosines(cut[None], beginning[None]).min() >= 0.999


def test_tokens_can_be_counted_beforehand(late_encoder):
    assert late_encoder.count_tokens([LONG, "short"]) == [10, 1]
    assert late_encoder.count_tokens(LONG) == [10]
    assert short(late_encoder).max_length == 8


def test_all_copies_fit_the_context(builtin_folder, texts):
    model = tiny("llama", max_position_embeddings=64, vocab_size=49152)
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    encoder = EchoEncoder(model, "echo", tokenizer=tokenizer)
    overhead = encoder.runtime.layout(encoder.config.templates[0], None).overhead
    assert encoder.max_length == (64 - overhead) // 2
    with pytest.warns(
        TruncationWarning, match=rf"truncated to {encoder.max_length} tokens, which is what fits the model's"
    ):
        encoder.encode_documents(["many words " * 100])
    with pytest.raises(
        ConfigError, match="the template alone has .* no room for 2 copies in the model's context of 64"
    ):
        encoder.with_config(EchoConfig("word " * 70 + "{text}\n {text}")).encode_documents("a")


def test_a_sliding_window_that_hides_the_first_copy_is_said(builtin_folder):
    model = tiny("mistral-window", sliding_window=40, vocab_size=49152)
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    encoder = EchoEncoder(model, EchoConfig("{text}\n{text}", max_length=100), tokenizer=tokenizer)
    with pytest.warns(
        WindowWarning, match="looks back at most 40 tokens: in texts of 20 tokens or more .* max_length=19"
    ):
        encoder.encode_documents("a")
    late = EchoConfig("{text}\n{text}", max_length=100, start_layer=3)
    with pytest.warns(WindowWarning, match="looks back at most 40 tokens"):
        encoder.with_config(late).encode_documents("a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.with_config(EchoConfig("{text}\n{text}", max_length=19)).encode_documents("a")


def test_a_model_with_some_layers_that_see_everything_is_not_warned_of(builtin_folder):
    model = tiny("gemma3", sliding_window=40, vocab_size=49152)
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EchoEncoder(model, EchoConfig("{text}\n{text}", max_length=100), tokenizer=tokenizer).encode_documents("a")


# --- streams and memory -----------------------------------------------------------------------------------------------


def test_a_stream_equals_the_list(late_encoder, texts):
    streamed = list(late_encoder.stream_documents(iter(texts), chunk=3))
    assert cosines(np.stack(streamed), late_encoder.encode_documents(texts)).min() >= 0.99999
    assert (
        cosines(np.stack(list(late_encoder.stream_queries(texts))), late_encoder.encode_queries(texts)).min() >= 0.99999
    )


def test_a_stream_holds_no_more_than_its_window(late_encoder):
    taken = 0

    def source():
        nonlocal taken
        for i in range(10_000):
            taken += 1
            yield f"text {i % 7}"

    stream = late_encoder.stream_documents(source(), chunk=16)
    for seen, _ in zip(range(100), stream, strict=False):
        assert taken <= seen + 16
    stream.close()


def test_many_texts_in_bounded_memory(builtin_folder):
    """Ten times the texts need no more memory (of Python and NumPy), through a tiny model."""
    model, tokenizer = tiny("llama", vocab_size=49152), AutoTokenizer.from_pretrained(builtin_folder)
    config = EchoConfig("{text}\n{text}", max_length=4)
    encoder = EchoEncoder(model, config, tokenizer=tokenizer, on_truncate="ignore")

    def peak(count):
        tracemalloc.start()
        assert sum(1 for _ in encoder.stream_documents((f"text {i} " * 20 for i in range(count)), chunk=64)) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(250)
    assert peak(2_500) < 1.3 * few


def test_a_stream_names_the_position_of_what_is_no_text(late_encoder):
    with pytest.raises(TypeError, match=r"texts\[5\] is NoneType"):
        list(late_encoder.stream_documents(["a"] * 5 + [None], chunk=2))
    with pytest.raises(TypeError, match="not one string"):
        late_encoder.stream_documents("abc")
    with pytest.raises(ConfigError, match="chunk=0: give a whole number of at least 1"):
        late_encoder.stream_documents(["a"], chunk=0)


# --- token vectors ----------------------------------------------------------------------------------------------------


def test_token_vectors_belong_to_the_texts_tokens(late_encoder):
    text = "The ferry leaves at dawn."
    found = late_encoder.encode_tokens(text)
    assert found.vectors.shape == (len(found.tokens), late_encoder.dimension)
    assert [text[a:b] for a, b in found.offsets][:2] == ["The", " ferry"]
    runtime = late_encoder.runtime
    template = late_encoder.config.templates[0]
    contents = runtime.contents([text], template, None)
    (tokens,) = runtime.token_vectors([text], contents, runtime.layout(template, None), "document")
    states = tokens.vectors
    assert cosines(unit(states.mean(0)[None]), late_encoder.encode_documents([text]))[0] >= 0.99999
    assert cosines(unit(states), found.vectors).min() >= 0.99999


def test_token_vectors_of_many_texts_are_those_of_each_alone(late_encoder, texts):
    many = late_encoder.encode_tokens([*texts, texts[0]])
    each = [late_encoder.encode_tokens(text) for text in texts]
    assert [one.tokens for one in many] == [one.tokens for one in [*each, each[0]]]
    for alone, found in zip(each, many, strict=False):
        assert cosines(found.vectors, alone.vectors).min() >= 0.99999
        np.testing.assert_array_equal(found.offsets, alone.offsets)


# --- transforms -------------------------------------------------------------------------------------------------------


def test_fitting_gives_a_new_encoder_and_leaves_the_old(late_encoder, texts):
    before = late_encoder.encode_documents(texts)
    fitted = late_encoder.fit_transforms(texts, ["standardize", Truncate(64)])
    assert fitted.dimension == 64
    assert [type(t) for t in fitted.config.transforms] == [Standardize, Truncate]
    vectors = fitted.encode_documents(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(late_encoder.encode_documents(texts), before)


def test_embed_filter_needs_no_texts(late_encoder, texts):
    fitted = late_encoder.fit_transforms([], ["embed-filter"])
    assert fitted.dimension == late_encoder.dimension // 2
    assert fitted.encode_documents(texts).shape == (len(texts), fitted.dimension)


def test_what_cannot_be_fitted_is_said(late_encoder):
    with pytest.raises(ConfigError, match=r"cannot be fitted on 0 text\(s\)"):
        late_encoder.fit_transforms([])
    with pytest.raises(ConfigError, match="the transform 'sharpen' is unknown; use 'standardize', 'whiten'"):
        late_encoder.fit_transforms(["a"], ["sharpen"])


def test_a_trained_map_is_not_replaced_in_silence(builtin_encoder, texts):
    with pytest.raises(ConfigError, match=r"with the weights \(Project\).*fit_transforms\(\.\.\., replace=True\)"):
        builtin_encoder.fit_transforms(texts)
    fitted = builtin_encoder.fit_transforms(texts, replace=True)
    assert [type(transform) for transform in fitted.config.transforms] == [Standardize]
    trained = builtin_encoder.config.transforms
    for wanted in (["embed-filter"], [Truncate(256)], []):
        with pytest.raises(ConfigError, match=r"fit on top of it: \[\*encoder\.config\.transforms, 'standardize'\]"):
            builtin_encoder.fit_transforms([], wanted)
    on_top = builtin_encoder.fit_transforms(texts, [*trained, "standardize"])
    assert on_top.config.transforms[:1] == trained
    assert len(on_top.config.transforms) == 2


def test_a_fit_keeps_the_length_that_was_asked_for(late_encoder, texts):
    short = late_encoder.with_config(late_encoder.config.truncated(64))
    assert short.fit_transforms(texts).dimension == 64
    assert short.fit_transforms(texts, ["standardize", Truncate(32)]).dimension == 32


def test_statistics_of_another_model_are_refused(builtin_folder):
    model = tiny("llama", vocab_size=49152, num_hidden_layers=30)
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    with pytest.raises(ConfigError, match="Standardize was fitted on 576 dimensions, but these vectors have 32"):
        EchoEncoder(model, "zero-shot", tokenizer=tokenizer).encode_documents("a")


# --- saving, pickling, threads ----------------------------------------------------------------------------------------


def test_a_saved_folder_gives_bit_equal_vectors(builtin_encoder, texts, tmp_path):
    builtin_encoder.save_pretrained(tmp_path)
    loaded = EchoEncoder(tmp_path)
    np.testing.assert_array_equal(loaded.encode_documents(texts), builtin_encoder.encode_documents(texts))
    np.testing.assert_array_equal(loaded.encode_queries(texts), builtin_encoder.encode_queries(texts))
    assert loaded.config.transforms == builtin_encoder.config.transforms


def test_dimensions_are_the_first_of_a_vector(builtin_encoder, texts, tmp_path):
    config = builtin_encoder.config.replace(max_length=256)
    whole = builtin_encoder.with_config(config).encode_queries(texts)
    config.save(tmp_path)
    (tmp_path / "adapter_config.json").touch()  # nothing of it is read here; it makes the folder one of a model
    for short in (EchoEncoder(config=config, dimensions=300), EchoEncoder(tmp_path, dimensions=300)):
        assert short.config == config.truncated(300)
        assert short.config.fingerprint() != config.fingerprint()
        assert pickle.loads(pickle.dumps(short)).config == short.config
    vectors = builtin_encoder.with_config(short.config).encode_queries(texts)
    np.testing.assert_allclose(vectors, unit(whole[:, :300].copy()), atol=1e-6)
    assert EchoEncoder(dimensions=300).config == EchoConfig.preset("default").truncated(300)
    assert config.truncated(None) is config


def test_a_length_that_the_config_was_not_made_for_is_said(builtin_encoder, tmp_path):
    message = "dimensions=384: the config was made for 256, 512, 1024, and other lengths can be worse"
    with pytest.warns(DimensionsWarning, match=message):
        assert EchoEncoder(dimensions=384).encode_documents("a").shape == (384,)
    config = builtin_encoder.config
    assert config.trained_dimensions == (1024, 512, 256)
    assert config.replace(trained_dimensions=()).fingerprint() == config.fingerprint()  # it changes no vector
    config.save(tmp_path)
    assert EchoConfig.load(tmp_path) == config
    for silent in (config, EchoConfig.preset("echo")):
        silent.warn_of(256)
    with pytest.warns(DimensionsWarning, match=message):
        EchoEncoder(config=config.truncated(384))
    with pytest.raises(ConfigError, match=r"trained_dimensions holds a number=0: give a whole number of at least 1"):
        config.replace(trained_dimensions=(0,))


def test_lengths_belong_to_the_map_and_the_words_that_they_were_made_with():
    config = EchoConfig.preset("default")
    assert config.replace(max_length=9, packaged_adapter=None).trained_dimensions == (1024, 512, 256)
    assert config.replace(lexical=None).trained_dimensions == config.replace(transforms=()).trained_dimensions == ()
    assert config.replace(lexical=None, trained_dimensions=[320]).trained_dimensions == (320,)


def test_float32_comes_back_as_float32(late_encoder, texts, tmp_path):
    late_encoder.save_pretrained(tmp_path)
    np.testing.assert_array_equal(EchoEncoder(tmp_path).encode_documents(texts), late_encoder.encode_documents(texts))


def test_a_file_is_no_folder_to_save_to(late_encoder, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError, match="is a file; save_pretrained wants a folder"):
        late_encoder.save_pretrained(path)


def test_pickling_takes_the_recipe_not_the_weights(late_encoder, texts):
    late_encoder.encode_documents("loaded now")
    pickled = pickle.dumps(late_encoder)
    assert len(pickled) < 10_000
    np.testing.assert_array_equal(
        pickle.loads(pickled).encode_documents(texts[:2]), late_encoder.encode_documents(texts[:2])
    )


def test_a_loaded_model_works_and_is_shared_with_generation(builtin_folder, late_encoder, texts):
    model = AutoModelForCausalLM.from_pretrained(builtin_folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    before = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    encoder = EchoEncoder(model, late_encoder.config, tokenizer=tokenizer)
    # A model that was brought attends in its own way; ours, behind a prefix, but for rounding.
    found = encoder.encode_documents(texts)
    torchs = EchoEncoder(config=late_encoder.config, dtype="float32", model_kwargs={"attn_implementation": "sdpa"})
    np.testing.assert_array_equal(found, torchs.encode_documents(texts))
    np.testing.assert_allclose(found, late_encoder.encode_documents(texts), atol=1e-6)
    assert (model.generate(**prompt, max_new_tokens=4, do_sample=False) == before).all()
    with pytest.raises(pickle.PicklingError, match="use save_pretrained"):
        pickle.dumps(encoder)


def test_threads_get_the_same_vectors(late_encoder, texts):
    expected = late_encoder.encode_documents(texts)
    fresh, results = EchoEncoder(config=late_encoder.config, dtype="float32"), {}

    def work(i):
        results[i] = fresh.encode_documents(texts)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        np.testing.assert_array_equal(results[i], expected)


def test_a_folder_without_a_known_architecture_says_so(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "abacus"}')
    with pytest.raises(ModelError, match="could not be loaded: .*abacus"):
        EchoEncoder(tmp_path).encode_documents("a")


def test_nan_names_the_text(builtin_folder):
    model, tokenizer = tiny("llama", vocab_size=49152), AutoTokenizer.from_pretrained(builtin_folder)
    (bad,) = tokenizer("ferry", add_special_tokens=False).input_ids[:1]
    model.embed_tokens.weight.data[bad] = float("nan")
    encoder = EchoEncoder(model, EchoConfig("{text}\n{text}"), tokenizer=tokenizer)
    with pytest.raises(
        NumericalError,
        match="gave NaN or infinity for 1 of 2 texts, among them 'ferry'; it ran in torch.float32: so its weights",
    ):
        encoder.encode_documents(["fine", "ferry"])


@pytest.mark.parametrize("std", [1e-45, 1e-38])
def test_infinity_after_a_transform_names_the_text(builtin_folder, std):
    model, tokenizer = tiny("llama", vocab_size=49152), AutoTokenizer.from_pretrained(builtin_folder)
    scales = np.ones(32, np.float32)
    scales[3] = std
    config = EchoConfig("{text}\n{text}", transforms=(Standardize(np.full(32, 1e4), scales),))
    encoder = EchoEncoder(model, config, tokenizer=tokenizer)
    message = "vectors have NaN or infinity in them, among them that of 'ferry'.*fit it again"
    for encode in (
        encoder.encode_documents,
        encoder.encode_queries,
        lambda texts: list(encoder.stream_documents(texts)),
    ):
        with pytest.raises(NumericalError, match=message):
            encode(["ferry"])
    with pytest.raises(NumericalError, match="vectors have NaN or infinity"):
        encoder.encode_tokens("ferry")


# --- arguments --------------------------------------------------------------------------------------------------------


def test_defaults_depend_on_the_model(builtin_folder):
    assert EchoEncoder().config == EchoConfig.preset("default")
    assert EchoEncoder(builtin_folder).config == recipe_for(Facts("llama", 576, 30)).config
    assert EchoEncoder(builtin_folder, "late-echo").config == EchoConfig.preset("late-echo")


def test_construction_loads_nothing():
    encoder = EchoEncoder("no/such-model", "echo")
    assert "no/such-model" in repr(encoder)


def test_an_encoder_is_described_in_one_line():
    assert repr(EchoEncoder("no/such-model", dtype=torch.float16)) == (
        f"EchoEncoder('no/such-model', config=None, device={pick_device(None)!r}, dtype='float16')"
    )
    assert repr(EchoEncoder(device="cpu", dimensions=256)) == (
        "EchoEncoder('SmolLM2-135M-Instruct', config='default@256', device='cpu', dtype='auto', dimension=256)"
    )
    config = EchoConfig("{text}")
    assert repr(EchoEncoder("a/b", config, "cpu", "int8")) == (
        f"EchoEncoder('a/b', config='{config.fingerprint()[:12]}', device='cpu', dtype='int8')"
    )


def test_streams_show_their_progress(float32_encoder, capsys):
    for stream in (float32_encoder.stream_documents, float32_encoder.stream_queries):
        seen = []
        texts = ["a", "b", "a", "c", "a"]
        assert len(list(stream(iter(texts), chunk=2, show_progress=seen.append))) == 5
        assert sum(seen) == 5
        assert max(seen) <= 2
        assert capsys.readouterr().err == ""
        list(stream(texts, show_progress=True))
        assert "5/5" in capsys.readouterr().err  # the total is known
        list(stream(iter(texts), show_progress=True))
        assert "5text" in capsys.readouterr().err  # it is not


def test_an_encoder_is_an_embedder(builtin_encoder):
    embedder: Embedder = builtin_encoder
    assert embedder.encode_documents(["a"]).shape == (1, embedder.dimension)
    assert builtin_encoder.model_name == builtin.NAME


def test_a_fingerprint_tells_apart_what_gives_other_vectors(builtin_folder):
    encoders = [
        EchoEncoder(),
        EchoEncoder(builtin_folder, "zero-shot"),
        EchoEncoder(config="echo"),
        EchoEncoder(dtype="float32"),
        EchoEncoder(adapter="some/adapter"),
        EchoEncoder(model_kwargs={"revision": "main"}),
    ]
    assert len({encoder.fingerprint() for encoder in encoders}) == len(encoders)
    assert EchoEncoder().fingerprint() == EchoEncoder().fingerprint()


MISFIT = EchoConfig.preset("echo").replace(transforms=(Standardize(np.zeros(3), np.ones(3)),))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dimensions": 0}, ConfigError, "dimensions=0: give a whole number of at least 1"),
        ({"on_truncate": "cut"}, ConfigError, "on_truncate='cut' is unknown; choose one of warn, error, ignore"),
        ({"config": "ecko"}, ConfigError, "there is no preset 'ecko'"),
        ({"dimensions": 5000}, ConfigError, "Truncate cannot keep 5000 of 1024 dimensions; choose at most that many"),
        ({"dimensions": 577, "config": "echo"}, ConfigError, "cannot keep 577 of 576 dimensions"),
        ({"config": MISFIT}, ConfigError, "Standardize was fitted on 3 dimensions, but these vectors have 576"),
        ({"device": "gpu"}, ModelError, "device='gpu' cannot be used: Expected one of cpu, cuda"),
        ({"dtype": "float12"}, ModelError, "dtype='float12' is unknown; use 'auto', 'float32'"),
        ({"model_kwargs": {"device": "cpu"}}, ConfigError, "device is an option of its own: device='cpu'"),
        ({"config": 3}, TypeError, "config must be an EchoConfig or a preset's name, not int"),
        ({"model": object()}, TypeError, "a loaded model needs its tokenizer"),
        ({"model": object(), "tokenizer": 1, "adapter": "a"}, TypeError, "adapter= goes with a model's name"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        EchoEncoder(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "/no/such/folder"}, "there is no folder '/no/such/folder'; give the path of a saved model"),
        ({"model": "no/such-model"}, "model 'no/such-model' could not be loaded"),
        ({"device": "gpu"}, "device='gpu' cannot be used: .*; leave it out to take the best"),
        ({"device": "cuda:77"}, "device='cuda:77' cannot be used"),
        ({"model": "/no/such/file.gguf"}, "there is no GGUF file '/no/such/file.gguf'"),
        ({"dtype": "float12"}, "dtype='float12' is unknown; use 'auto', 'float32'"),
        ({"dtype": "int4"}, "dtype='int4' is unknown"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(arguments, message):
    with pytest.raises(ModelError, match=message):
        EchoEncoder(**arguments).encode_documents("a")


def test_fitting_loads_the_weights_once(builtin_folder, texts):
    encoder = EchoEncoder(builtin_folder, "late-echo", dtype="float32")
    fitted = encoder.fit_transforms(texts)
    assert fitted.runtime.backbone is encoder.runtime.backbone
