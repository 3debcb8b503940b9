"""``EchoEncoder(precision=)``: what an encoder gives, keeps and says."""

import asyncio
import pickle
import re

import numpy as np
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, EncoderOptions, Lexical
from echo_embeddings.errors import ConfigError, InputError
from echo_embeddings.vectors.precision import Ranges, reduced, turned
from tests.architectures import small_tokenizer, tiny

TEXTS = ["The ferry leaves at dawn.", "Bread needs a hot oven.", "a", "", "The ferry leaves at dawn."]


@pytest.fixture(scope="module")
def tiny_encoder():
    return EchoEncoder(tiny("llama"), "echo", tokenizer=small_tokenizer(TEXTS))


@pytest.fixture(scope="module")
def ranged(tiny_encoder):
    """With vectors of 32 dimensions, made for 16 too."""
    encoder = tiny_encoder.with_config(tiny_encoder.config.replace(trained_dimensions=(16,)))
    return encoder.fit_ranges([*TEXTS, "something else", "and more of it", "12345"])


def same(one, other, precision):
    """Whether vectors are the same, but for rounding in batches of another size."""
    apart = np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).max()
    return np.shape(one) == np.shape(other) and apart <= {"float16": 0.001, "int8": 1, "ubinary": 0}[precision]


@pytest.mark.parametrize(("precision", "dtype"), [("float16", np.float16), ("int8", np.int8), ("ubinary", np.uint8)])
def test_every_call_gives_the_same_smaller_vectors(ranged, precision, dtype):
    whole = ranged.encode_documents(TEXTS)
    encoder = ranged.with_precision(precision)
    found = encoder.encode_documents(TEXTS)
    assert found.dtype == dtype
    ranges = ranged.config.ranges.of(whole.shape[1])
    np.testing.assert_array_equal(found, reduced(whole, precision, ranges))
    assert same(encoder.encode_documents(TEXTS[0]), found[0], precision)
    assert same(list(encoder.stream_documents(iter(TEXTS), chunk=2)), found, precision)
    assert same(asyncio.run(encoder.aencode_documents(TEXTS[1])), found[1], precision)
    assert encoder.encode_queries([]).dtype == dtype
    assert encoder.encode_queries([]).shape == (0, found.shape[1])
    assert encoder.engine is ranged.engine
    assert encoder.dimension == whole.shape[1]


@pytest.mark.parametrize(("precision", "most"), [("float16", 0.001), ("int8", 0.01), ("ubinary", 0.4)])
def test_similarity_is_that_of_what_they_stand_for(ranged, precision, most):
    encoder = ranged.with_precision(precision)
    vectors, whole = encoder.encode_documents(TEXTS), ranged.encode_documents(TEXTS)
    similar = encoder.similarity(vectors, vectors)
    assert similar.dtype == np.float32
    np.testing.assert_allclose(np.diag(similar), 1, atol=1e-5)
    assert np.abs(similar - ranged.similarity(whole, whole)).max() < most
    np.testing.assert_allclose(np.linalg.norm(encoder.restored(vectors), axis=1), 1, atol=1e-5)


def test_vectors_of_another_precision_are_refused_and_not_read_as_what_they_are_not(ranged):
    whole = ranged.encode_documents(TEXTS)
    bits = ranged.with_precision("ubinary")
    with pytest.raises(InputError, match=r"float32 \[5, 32\], and those of precision='ubinary' are uint8 \[..., 4\]"):
        bits.similarity(whole, whole)
    with pytest.raises(InputError, match=r"vectors are uint8 \[5, 4\], and those of precision='int8' are int8"):
        ranged.with_precision("int8").restored(bits.encode_documents(TEXTS))
    listed = bits.encode_documents(TEXTS).tolist()  # as a server sends them
    np.testing.assert_array_equal(bits.restored(listed), bits.restored(np.array(listed, np.uint8)))
    with pytest.raises(InputError, match=r"numbers from -1 to 3, and those of precision='ubinary' are from 0 to 255"):
        bits.restored([[0, -1, 2, 3]])
    with pytest.raises(InputError, match=r"numbers from 0 to 128, .*precision='int8' are from -128 to 127"):
        ranged.with_precision("int8").restored([0] * 31 + [128])


def test_with_words_beside_the_echo_bits_are_those_of_turned_vectors(tiny_encoder):
    """And without words those of sentence-transformers; the test above compares them."""
    words = Lexical.fit([*TEXTS, "something else", "and more of it"], blocks=64, document_weight=1.0)
    encoder = tiny_encoder.with_config(tiny_encoder.config.replace(lexical=words))
    whole, bits = encoder.encode_documents(TEXTS), encoder.with_precision("ubinary")
    found = bits.encode_documents(TEXTS)
    np.testing.assert_array_equal(found, np.packbits(turned(whole) > 0, axis=1))
    assert not np.array_equal(found, np.packbits(whole > 0, axis=1))
    assert (bits.restored(found) * whole).sum(axis=1).min() > 0.6
    assert (encoder.config.turns_bits, tiny_encoder.config.turns_bits) == (True, False)


def test_ranges_are_saved_with_the_model(ranged, tmp_path):
    ranged.save_pretrained(tmp_path / "model")
    loaded = EchoEncoder(tmp_path / "model", precision="int8", dtype="float32")
    assert loaded.config.ranges == ranged.config.ranges
    assert same(loaded.encode_documents(TEXTS), ranged.with_precision("int8").encode_documents(TEXTS), "int8")
    shorter = EchoEncoder(tmp_path / "model", precision="int8", dtype="float32", dimensions=16)
    assert shorter.encode_documents(TEXTS).shape == (5, 16)


def test_ranges_change_no_other_vector_and_are_part_of_the_config(ranged):
    plain = ranged.with_config(ranged.config.replace(ranges=None))
    np.testing.assert_array_equal(plain.encode_documents(TEXTS), ranged.encode_documents(TEXTS))
    assert plain.config.fingerprint() != ranged.config.fingerprint()
    assert EchoConfig.preset("echo").replace(ranges=Ranges([[0.0], [1.0]], [1]), pooling="last").ranges is not None
    assert ranged.config.replace(lexical=EchoConfig.preset("default").lexical).ranges is None  # other vectors


def test_a_precision_is_part_of_what_caches_are_called_by(ranged):
    bits = ranged.with_precision("ubinary")
    assert bits.fingerprint() != ranged.fingerprint() == bits.with_precision("float32").fingerprint()
    assert re.search(r"^precision +ubinary$", bits.describe(), re.MULTILINE)
    assert bits.precision == "ubinary"
    assert bits.computed_in == ranged.computed_in == "cpu torch.float32"


def test_it_is_kept_by_options_pickle_and_other_configs(ranged):
    bits = ranged.with_precision("ubinary")
    assert bits.options.precision == "ubinary"
    assert bits.with_config(ranged.config).precision == "ubinary"
    named = EchoEncoder.from_options(EncoderOptions(precision="float16"))
    assert pickle.loads(pickle.dumps(named)).precision == named.precision == "float16"


def test_ranges_fit_the_dimension(ranged):
    shorter = ranged.with_config(ranged.config.truncated(8)).with_precision("int8")
    with pytest.raises(ConfigError, match="the config has none for 8 dimensions, only for 32, 16; fit them on some"):
        shorter.encode_documents(TEXTS)


def test_what_cannot_work_is_said_at_once(tiny_encoder):
    with pytest.raises(ConfigError, match="precision='int4' is unknown; choose one of 'float32'"):
        EchoEncoder(precision="int4")
    with pytest.raises(ConfigError, match=r"the config has none; fit them .*or choose 'float16' or 'ubinary'"):
        EchoEncoder(config="echo", precision="int8")
    with pytest.raises(ConfigError, match="precision='int8' needs the range of each dimension"):
        tiny_encoder.with_precision("int8")
    with pytest.raises(ConfigError, match="fit_ranges needs some hundred texts, at least 2, not 1"):
        tiny_encoder.fit_ranges(["one"])


def test_the_default_config_has_ranges(builtin_encoder):
    encoder = builtin_encoder.with_precision("int8")
    texts = [*TEXTS, "boat", "two words"]
    similar = encoder.similarity(encoder.encode_documents(texts), encoder.encode_queries(texts))
    whole = builtin_encoder.similarity(builtin_encoder.encode_documents(texts), builtin_encoder.encode_queries(texts))
    assert np.abs(similar - whole).max() < 0.05
