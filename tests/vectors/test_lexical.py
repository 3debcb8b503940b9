import re

import numpy as np
import pytest

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, Lexical, Truncate
from echo_embeddings.vectors.ngrams import mixed, ngrams
from echo_embeddings.vectors.normalize import unit
from tests.conftest import cosines

TEXTS = [f"The {thing} of the {place}." for thing in ("ferry", "bridge", "mill") for place in ("isle", "town")]
LEXICAL = Lexical.fit(TEXTS, blocks=(16, 32, 200))


@pytest.fixture(scope="module")
def lexical_encoder(late_encoder):
    """Late echo with the words of the text beside it, float32."""
    return late_encoder.with_config(late_encoder.config.replace(lexical=LEXICAL))


def test_an_ngram_has_one_place_in_each_block_and_its_weight_there():
    weights = np.zeros(8)
    lexical = Lexical(weights + 2, blocks=(3, 5))
    (found,) = ngrams(["a"], 4).hashes
    (vector,) = lexical.vectors(["a a a"])  # saturation makes no difference to one n-gram alone
    blocks = vector[:3], vector[3:]
    shares = np.sqrt([3, 5]) / np.sqrt([3, 5]).sum()  # of the squared length: by the root of a block's width
    for index, (block, share) in enumerate(zip(blocks, shares, strict=True)):
        (hashed,) = mixed(np.array([found + np.uint64(index + 1)], np.uint64)).tolist()
        (place,) = block.nonzero()[0]
        assert place == hashed % len(block)
        np.testing.assert_allclose(block[place], np.sqrt(share) * (1 if hashed >> 63 else -1), rtol=1e-6)
    weights[int(found) % 8] = 1
    assert Lexical(weights).vectors(["a"]).any()
    assert not Lexical(np.roll(weights, 1)).vectors(["a", "", "?!"]).any()  # nothing that counts


def test_what_recurs_counts_as_in_bm25():
    lexical = Lexical([1.0], blocks=(4096,))
    once, thrice = lexical.vectors(["a b", "a a a b"])
    ratio = sorted(np.abs(thrice[thrice != 0]) / np.abs(once[once != 0]).min())
    np.testing.assert_allclose(ratio[1] / ratio[0], 3 * 2.2 / (3 + 1.2), rtol=1e-5)


def test_inner_products_are_those_of_the_ngrams_but_for_collisions():
    texts = ["The mill burns a brick kiln.", "A kiln in the mill yard", "Ducks swim."]
    (a, b, c), sets = Lexical([1.0], blocks=(8192, 8192)).vectors(texts), [set(ngrams([t], 4).hashes) for t in texts]
    shared = len(sets[0] & sets[1]) / np.sqrt(len(sets[0]) * len(sets[1]))
    np.testing.assert_allclose([a @ b, a @ c], [shared, 0], atol=0.02)


def test_rare_ngrams_say_more():
    lexical = Lexical.fit(["one mill", "one ferry", "one", "one one"])
    assert (lexical.blocks, lexical.size, lexical.dimension) == ((128, 128, 448), 4, 704)
    said = {word: lexical.arrays["weights"][ngrams([word], 4).hashes.astype(int) % 2**15] for word in ("one", "mill")}
    np.testing.assert_allclose(said["one"], 0.105, atol=0.001)  # log(5 / 4.5)
    np.testing.assert_allclose(said["mill"], np.log(5 / 1.5), rtol=1e-5)
    np.testing.assert_allclose(lexical.arrays["weights"].max(), np.log(5 / 0.5), rtol=1e-5)


def test_it_stands_block_by_block_beside_the_echo(late_encoder, lexical_encoder, texts):
    echo, both = late_encoder.encode_documents(texts), lexical_encoder.encode_documents(texts)
    words = 0.5 * LEXICAL.vectors(texts)
    wanted = [echo[:, :16], words[:, :16], echo[:, 16:48], words[:, 16:48], echo[:, 48:], words[:, 48:]]
    assert lexical_encoder.dimension == both.shape[1] == echo.shape[1] + LEXICAL.dimension
    np.testing.assert_allclose(both, unit(np.concatenate(wanted, axis=1)), atol=1e-6)


def test_a_truncate_at_the_end_cuts_both_and_other_transforms_map_the_echo(late_encoder, lexical_encoder, texts):
    fitted = lexical_encoder.fit_transforms(texts * 2, ["standardize", Truncate(100), "standardize", Truncate(40)])
    echo = late_encoder.fit_transforms(texts * 2, ["standardize", Truncate(100), "standardize"])
    vectors = fitted.encode_documents(texts)
    assert vectors.shape == (len(texts), 40)
    np.testing.assert_allclose(unit(vectors[:, :16]), unit(echo.encode_documents(texts)[:, :16]), atol=1e-5)
    np.testing.assert_allclose(unit(vectors[:, 16:32]), unit(LEXICAL.vectors(texts)[:, :16]), atol=1e-5)
    whole = late_encoder.dimension + LEXICAL.dimension
    assert lexical_encoder.fit_transforms([], [Truncate(whole)]).dimension == whole
    with pytest.raises(ConfigError, match=rf"cannot keep {whole + 1} of {whole} dimensions"):
        lexical_encoder.fit_transforms([], [Truncate(whole + 1)])


def test_it_may_be_longer_in_queries(lexical_encoder, texts, tmp_path):
    config = lexical_encoder.config.replace(lexical=Lexical(**LEXICAL.arrays, **LEXICAL.options | {"query_weight": 2}))
    encoder = lexical_encoder.with_config(config)
    documents, queries = encoder.encode_documents(texts), encoder.encode_queries(texts)
    own = np.linalg.norm(documents[:, 16:32], axis=1) / np.linalg.norm(documents[:, :16], axis=1)
    asked = np.linalg.norm(queries[:, 16:32], axis=1) / np.linalg.norm(queries[:, :16], axis=1)
    np.testing.assert_allclose(asked, 4 * own, rtol=1e-4)
    config.save(tmp_path)
    assert EchoConfig.load(tmp_path) == config
    assert config.fingerprint() != lexical_encoder.config.fingerprint()
    assert (config.lexical.weight("document"), config.lexical.weight("query")) == (0.5, 2.0)


@pytest.mark.parametrize("role", ["document", "query"])
@pytest.mark.parametrize("wrong", [-1, True, "much", float("nan"), float("inf"), 1e300])
def test_a_weight_is_a_number_to_compute_with(role, wrong):
    message = re.escape(f"{role}_weight={wrong!r}: give a number from 0 to 1000, such as 0.5")
    with pytest.raises(ConfigError, match=message):
        Lexical([1.0], **{f"{role}_weight": wrong})


def test_by_default_words_are_twice_as_long_in_queries(lexical_encoder, texts):
    documents, queries = lexical_encoder.encode_documents(texts), lexical_encoder.encode_queries(texts)
    own, asked = (np.linalg.norm(v[:, 16:32], axis=1) / np.linalg.norm(v[:, :16], axis=1) for v in (documents, queries))
    np.testing.assert_allclose(asked, 2 * own, rtol=1e-4)


def test_it_knows_no_more_of_a_truncated_text_than_the_echo_does(lexical_encoder):
    short = lexical_encoder.with_config(lexical_encoder.config.replace(max_length=4))
    with pytest.warns(UserWarning, match="1 text"):
        cut = short.encode_documents("One two three four five six seven")
    np.testing.assert_allclose(cut, short.encode_documents("One two three four"), atol=1e-6)


def test_a_rare_word_in_common_draws_texts_together(late_encoder, lexical_encoder):
    pair = ["Order 48151 has left the mill.", "Which parcel is 48151?", "Which parcel is late?"]
    plain, both = (encoder.encode_documents(pair) for encoder in (late_encoder, lexical_encoder))
    assert both[0] @ both[1] - both[0] @ both[2] > plain[0] @ plain[1] - plain[0] @ plain[2] + 0.02


def test_alone_or_in_a_batch_a_text_has_the_same_vector(lexical_encoder, texts):
    together = lexical_encoder.encode_documents(texts)
    alone = np.stack([lexical_encoder.encode_documents(text) for text in texts])
    assert cosines(together, alone).min() > 0.99999
    many = LEXICAL.vectors([*TEXTS, *["between"] * 300, *TEXTS])
    np.testing.assert_array_equal(many[: len(TEXTS)], many[-len(TEXTS) :])
    assert LEXICAL.vectors([]).shape == (0, 248)


def test_the_vectors_of_tokens_average_to_that_of_the_text(lexical_encoder):
    text = "The ferry leaves the island at dawn."
    runtime, template = lexical_encoder.runtime, lexical_encoder.config.templates[0]
    contents, layout = runtime.contents([text], template, None), runtime.layout(template, None)
    mean = runtime.token_vectors([text], contents, layout, "document")[0].vectors.mean(axis=0)
    np.testing.assert_allclose(mean, runtime.vectors([text], contents, layout, "document")[0], rtol=1e-4, atol=1e-4)
    assert lexical_encoder.encode_tokens(text).vectors.shape == (len(contents[0].ids), lexical_encoder.dimension)


def test_it_is_saved_with_the_config(lexical_encoder, texts, tmp_path):
    config = lexical_encoder.config.replace(transforms=(Truncate(600),))
    config.save(tmp_path)
    loaded = EchoConfig.load(tmp_path)
    assert loaded == config
    assert loaded.fingerprint() == config.fingerprint() != config.replace(lexical=None).fingerprint()
    assert config.replace(lexical=Lexical(LEXICAL.arrays["weights"], size=5)).fingerprint() != config.fingerprint()
    encoder = lexical_encoder.with_config(config)
    encoder.save_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(
        EchoEncoder(tmp_path / "model").encode_documents(texts), encoder.encode_documents(texts)
    )


def test_a_config_without_it_is_written_as_before():
    written = EchoConfig("{text}").to_dict()
    assert "lexical" not in written
    assert "lexical" not in written["template"]


def test_what_cannot_work_is_said(lexical_encoder, tmp_path):
    for weights in ([1, 1, 1], [[1]], [], 1):
        with pytest.raises(ConfigError, match=r"weights \[buckets\], a power of two, not \["):
            Lexical(weights)
    with pytest.raises(ConfigError, match="weights from 0 up; that of bucket 1 is negative"):
        Lexical([1, -1])
    with pytest.raises(ConfigError, match="weights has NaN or infinity"):
        Lexical([np.nan])
    assert Lexical([1], 256) == Lexical([1], [256])
    for blocks in ((), (0,), (128, True), ("128",), 1.5, (10**12,)):
        with pytest.raises(ConfigError, match=r"blocks=\(.*\): give the number of dimensions of each block"):
            Lexical([1], blocks)
    for size in (2, 4.0, None, 65, 10**9):
        with pytest.raises(ConfigError, match=rf"size={size}: give the number of characters of an n-gram, from 3"):
            Lexical([1], size=size)
    with pytest.raises(ConfigError, match="cannot be fitted on no texts; give some thousand"):
        Lexical.fit([])
    with pytest.raises(TypeError, match="not one string"):
        Lexical.fit("text")
    with pytest.raises(TypeError, match=r"texts\[1\] is int"):
        Lexical.fit(["text", 1])
    with pytest.raises(TypeError, match="lexical='idf' is no Lexical"):
        EchoConfig("{text}", lexical="idf")
    lexical_encoder.config.save(tmp_path)
    (tmp_path / "echo_transforms.safetensors").unlink()
    with pytest.raises(ConfigError, match="the arrays of 'lexical' are missing from"):
        EchoConfig.load(tmp_path)
