"""A SentenceTransformer around an EchoModule gives EchoEncoder's vectors, whatever the config."""

import inspect
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer

from echo_embeddings import (
    ConfigError,
    EchoConfig,
    EchoEncoder,
    Lexical,
    Template,
    Truncate,
    TruncationError,
    TruncationWarning,
)
from echo_embeddings.vectors.normalize import unit
from sentence_transformers_echo import from_encoder
from tests.architectures import tiny
from tests.conftest import cosines

ECHO = EchoConfig.preset("echo")
CONFIGS = {
    "late-echo": EchoConfig.preset("late-echo"),
    "echo": ECHO,
    "weighted": ECHO.replace(pooling="weighted_mean"),
    "mean and last": ECHO.replace(pooling="mean_and_last"),
    "last": ECHO.replace(pooling="last", exit_layer=-1, final_norm=True),
    "late-with-tail": EchoConfig(
        Template('"{text}" again: "{text}" means:"', pool_tail=True), pooling="mean", start_layer=3
    ),
    "three-copies": EchoConfig(Template.repeat(3), start_layer=2, exit_layer=5),
    "prompt-eol": EchoConfig.preset("prompt-eol"),
    "classical": EchoConfig.preset("classical"),
}
ROLES = EchoConfig(
    Template("Passage: {text}\nThe passage again: {text}"),
    Template("Task: {instruction}\nQuestion: {text}\nAgain: {text}", instruction="find the answer"),
    start_layer=2,
)


def test_the_real_model_equals_the_encoder(late_encoder, texts):
    model = from_encoder(late_encoder)
    vectors = model.encode(texts)
    assert vectors.dtype == np.float32
    assert cosines(vectors, late_encoder.encode_documents(texts)).min() > 0.99999
    assert cosines(vectors[:2], np.stack([model.encode(text) for text in texts[:2]])).min() > 0.99999


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_equals_the_encoder(tiny_encoder, texts, name):
    encoder = tiny_encoder(CONFIGS[name])
    vectors = from_encoder(encoder).encode([*texts, ""], batch_size=3)
    assert cosines(vectors, encoder.encode_documents([*texts, ""])).min() > 0.99999


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_explicit_mask_changes_nothing(tiny_encoder, texts, attention):
    encoder = tiny_encoder(CONFIGS["late-with-tail"], attn_implementation=attention)
    singly = np.stack([encoder.encode_documents(text) for text in texts])
    assert cosines(from_encoder(encoder).encode(texts), singly).min() > 0.99999


def test_transforms_are_applied(tiny_encoder, texts):
    encoder = tiny_encoder(tie_word_embeddings=True).fit_transforms(texts, ["standardize", "embed-filter", Truncate(9)])
    model = from_encoder(encoder)
    assert model.get_embedding_dimension() == encoder.dimension == 9
    assert cosines(model.encode(texts), encoder.encode_documents(texts)).min() > 0.99999


@pytest.mark.parametrize("name", ["late-echo", "late-with-tail", "weighted", "last"])
def test_the_lexical_part_is_there_whatever_is_pooled(tiny_encoder, texts, name):
    lexical = Lexical.fit(texts, blocks=(8, 16), query_weight=2.5)
    encoder = tiny_encoder(CONFIGS[name].replace(lexical=lexical))
    encoder = encoder.fit_transforms(texts, ["standardize", Truncate(40)])
    model = from_encoder(encoder)
    assert model.get_embedding_dimension() == encoder.dimension == 40
    vectors = model.encode([*texts, ""], batch_size=3)
    assert cosines(vectors, encoder.encode_documents([*texts, ""])).min() > 0.99999
    assert cosines(unit(vectors[:-1, 8:16]), unit(lexical.vectors(texts)[:, :8])).min() > 0.99999
    queries = model.encode_query(texts, batch_size=3)
    assert cosines(queries, encoder.encode_queries(texts)).min() > 0.99999
    assert cosines(queries, vectors[:-1]).max() < 0.9999


def test_roles_prompts_and_instructions(tiny_encoder, texts):
    encoder = tiny_encoder(ROLES)
    model = from_encoder(encoder)
    assert cosines(model.encode_document(texts), encoder.encode_documents(texts)).min() > 0.99999
    assert cosines(model.encode_query(texts), encoder.encode_queries(texts)).min() > 0.99999
    assert cosines(model.encode_query(texts), model.encode_document(texts)).max() < 0.999
    told = encoder.encode_queries(texts, instruction="find a rebuttal")
    assert cosines(model.encode_query(texts, instruction="find a rebuttal"), told).min() > 0.99999
    # A prompt is the instruction where there is one ...
    assert cosines(model.encode_query(texts, prompt="find a rebuttal"), told).min() > 0.99999
    # ... and elsewhere stands once, in front, braces and all.
    prompted = tiny_encoder(EchoConfig("{{x}}: Passage: {text}\nThe passage again: {text}", start_layer=2))
    vectors = model.encode_document(texts, prompt="{x}: ")
    assert cosines(vectors, prompted.encode_documents(texts)).min() > 0.99999


def test_bad_input_is_a_value_error_that_reaches_the_user(tiny_encoder):
    model = from_encoder(tiny_encoder(ROLES))
    with pytest.raises(ValueError, match=r"texts\[1\] is int \(3\), not a string"):
        model.preprocess(["a", 3])
    with pytest.raises(ValueError, match=r"'x' was given, but template .* has no \{instruction\}"):
        model.encode_document(["a"], instruction="x")
    with pytest.raises(ValueError, match="instruction must be a string, not int"):
        model.encode_query(["a"], instruction=3)
    with pytest.raises(ValueError, match=r"prompt='p' and instruction='i' both say what \{instruction\} is"):
        model.encode_query(["a"], instruction="i", prompt="p")
    with pytest.raises(ValueError, match="EchoModule has no use for 'processing_kwargs'"):
        model.encode(["a"], processing_kwargs={"text": {"max_length": 3}})
    with pytest.raises(ValueError, match="does not use"):
        model.encode(["a"], instructions="x")


def test_max_seq_length_counts_content(tiny_encoder, texts):
    model = from_encoder(tiny_encoder())
    assert model.max_seq_length == tiny_encoder().max_length
    model.max_seq_length = 5
    assert model.max_seq_length == model[0].max_length == 5
    with pytest.warns(TruncationWarning, match="truncated to max_length=5 tokens"):
        vectors = model.encode(texts)
    short = tiny_encoder(EchoConfig.preset("late-echo").replace(max_length=5))
    with pytest.warns(TruncationWarning):
        assert cosines(vectors, short.encode_documents(texts)).min() > 0.99999
    with pytest.raises(ValueError, match="max_length=0: give a whole number"):
        model.max_seq_length = 0


LONG = "one two three four five six seven"


def test_what_is_truncated_is_said_once_a_call_at_the_line_of_the_call(tiny_encoder):
    model = from_encoder(tiny_encoder(EchoConfig.preset("late-echo").replace(max_length=5)))
    message = (
        r"4 text\(s\) were truncated to max_length=5 tokens; 8 tokens were left out\. Split long texts, raise "
        r"model\.max_seq_length, or silence this with model\[0\]\.on_truncate = 'ignore'"
    )
    for encode in (model.encode, model.encode_query, model.encode_document):
        with pytest.warns(TruncationWarning, match=message) as seen:
            encode([LONG, "short", LONG, LONG, "short", LONG], batch_size=2)
        assert [(one.message.texts, one.filename) for one in seen] == [(4, __file__)]
    assert model[0].truncated.texts == 12
    with warnings.catch_warnings():  # training prepares batch after batch, outside of any call
        warnings.simplefilter("error")
        model.preprocess([LONG])


def test_what_to_do_with_long_texts_comes_from_the_encoder(tiny_encoder, tokenizer):
    body, config = tiny("llama", vocab_size=len(tokenizer)), EchoConfig.preset("late-echo").replace(max_length=5)
    model = from_encoder(EchoEncoder(body, config, tokenizer=tokenizer, on_truncate="error"))
    with pytest.raises(TruncationError, match=r"Split it, raise model\.max_seq_length, or use model\[0\]\.on_truncate"):
        model.encode(["short", LONG])
    model[0].on_truncate = "ignore"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode([LONG])
    assert pickle.loads(pickle.dumps(model))[0].on_truncate == "ignore"
    with pytest.raises(ConfigError, match="on_truncate='cry' is unknown; choose one of warn, error, ignore"):
        model[0].on_truncate = "cry"
    splits = EchoEncoder(body, config, tokenizer=tokenizer, on_truncate="split")
    with pytest.raises(ConfigError, match=r"each text one pass .* with EchoEncoder\(on_truncate='split'\)"):
        from_encoder(splits)
    model.max_seq_length = "context"
    assert model.max_seq_length == EchoEncoder(body, config, tokenizer=tokenizer, max_length="context").max_length > 5


def test_columns_are_taken_and_other_containers_refused(tiny_encoder):
    model = from_encoder(tiny_encoder())
    expected = model.encode(["a", "b"])
    for column in (pd.Series(["a", "b"], index=[1, 0]), pa.array(["a", "b"]), np.array(["a", "b"]), ("a", "b")):
        np.testing.assert_array_equal(model.encode(column), expected)
        np.testing.assert_array_equal(model.encode(sentences=column), expected)
    for texts in (pd.DataFrame({"text": ["a"]}), {"a": "b"}, {"a", "b"}, (text for text in "ab"), None):
        for encode in (model.encode, model.encode_query, model.encode_document):
            with pytest.raises(TypeError, match=f"texts must be .* not {type(texts).__name__}; "):
                encode(texts)
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):  # the user's position, not that in a sorted batch
        model.encode(["a", None, "a longer text"])


def test_the_class_is_stock_in_all_but_one_call(tiny_encoder):
    model = from_encoder(tiny_encoder())
    assert isinstance(model, SentenceTransformer)
    assert type(model).__name__ == "SentenceTransformer"
    assert inspect.signature(type(model).encode) == inspect.signature(SentenceTransformer.encode)
    with pytest.raises(TypeError, match="inputs"):
        model.encode()


def test_truncate_dim_similarity_and_token_vectors(tiny_encoder, texts):
    encoder = tiny_encoder()
    model = from_encoder(encoder)
    short = model.encode(texts, truncate_dim=8, normalize_embeddings=True)
    assert short.shape == (len(texts), 8)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-6)
    vectors = model.encode(texts)
    np.testing.assert_allclose(model.similarity(vectors, vectors), encoder.similarity(vectors, vectors), atol=1e-6)
    (states,) = model.encode(texts[:1], output_value="token_embeddings")
    expected = encoder.encode_tokens(texts[0]).vectors
    assert cosines(torch.nn.functional.normalize(states, dim=1), expected).min() > 0.99999


def test_large_batches_run_in_groups_of_like_length(tiny_encoder, texts, monkeypatch):
    model = from_encoder(tiny_encoder())
    expected = model.encode(texts)
    monkeypatch.setattr("echo_embeddings.engine.batch_size.default_budget", lambda *_: 64)
    widths = []
    model[0].model.embed_tokens.register_forward_hook(lambda module, args, out: widths.append(tuple(args[0].shape)))
    assert cosines(model.encode(texts), expected).min() > 0.99999
    assert len(widths) > 2
    assert all(rows * width <= 64 for rows, width in widths if rows > 1)
    states = model.encode(texts, output_value="token_embeddings")
    assert [len(rows) for rows in states] == tiny_encoder().count_tokens(texts)


def test_low_precision_pools_in_float32(tokenizer, texts):
    model = tiny("llama", vocab_size=len(tokenizer)).bfloat16()
    encoder = EchoEncoder(model, "late-echo", tokenizer=tokenizer)
    vectors = from_encoder(encoder).encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert cosines(vectors, encoder.encode_documents(texts)).min() > 0.9999


def test_threads_and_pickle(tiny_encoder, texts):
    model = from_encoder(tiny_encoder(ROLES))
    expected = model.encode_query(texts)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: model.encode_query(texts), range(16)):
            assert cosines(vectors, expected).min() > 0.99999
    assert cosines(pickle.loads(pickle.dumps(model)).encode_query(texts), expected).min() > 0.99999
