from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import cosines

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, Lexical, Template, Truncate
from echo_embeddings.vectors import unit
from echo_embeddings.words import Words

# Four tokens of two dimensions. Behind the center they are (2, 0), (0, 1), (-1, 0) and (0, 0).
TABLE = np.array([[3, 1], [1, 2], [0, 1], [1, 1]], np.float32)
BY_HAND = Lexical(weights=[1, 2, 0, 5], center=[1, 1], projection=[[1, 0, 0], [0, 1, 1]])


def words(lexical=BY_HAND, table=TABLE):
    return Words(lexical, torch.nn.Embedding.from_pretrained(torch.tensor(table)))


def ids(*values):
    return np.array(values, np.int64)


@pytest.fixture(scope="module")
def lexical_encoder(late_encoder, texts_to_fit):
    """Late echo with the words of the text behind the states, float32."""
    runtime = late_encoder.runtime
    table = runtime.backbone.model.get_input_embeddings().weight.detach().float().numpy()
    contents = runtime.contents(texts_to_fit, late_encoder.config.templates[0], None)
    lexical = Lexical.fit([content.ids for content in contents], table)
    return late_encoder.with_config(late_encoder.config.replace(lexical=lexical))


@pytest.fixture(scope="module")
def texts_to_fit():
    return [f"The {thing} of the {place}." for thing in ("ferry", "bridge", "mill") for place in ("isle", "town")]


def test_a_text_is_the_weighted_sum_of_its_words_at_unit_length():
    # Token 0 once, token 1 twice with weight 2: (2, 0) + 2 * 2 * (0, 1) = (2, 4), projected (2, 4, 4), of length 6.
    (vector,) = words().vectors([ids(0, 1, 1)])
    np.testing.assert_allclose(vector, [1 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_padding_adds_nothing_and_what_does_not_count_is_zero():
    alone, beside = words().vectors([ids(1)]), words().vectors([ids(1), ids(0, 0, 1), ids(2), ids(3)])
    np.testing.assert_array_equal(alone[0], beside[0])
    np.testing.assert_array_equal(beside[2:], 0)  # a weight of 0, and an embedding that is the center


def test_the_mean_of_the_tokens_is_the_text():
    rows = torch.tensor([[0, 1, 1], [1, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    parts = words().tokens(rows, mask)
    assert not parts[1, 2].any()
    means = parts.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    np.testing.assert_allclose(means, words().vectors([ids(0, 1, 1), ids(1, 0)]), rtol=1e-6)


def test_fitting_weighs_rare_words_more_and_compares_by_whitened_embeddings():
    table = np.random.default_rng(0).normal([5, 0], [3, 1], size=(50, 2)).astype(np.float32)
    lexical = Lexical.fit([ids(0, 1, 1), ids(0, 2), ids(0)], table)
    assert (lexical.vocabulary, lexical.hidden, lexical.dimension) == (50, 2, 2)
    whitened = (table - lexical.arrays["center"]) @ lexical.arrays["projection"]
    np.testing.assert_allclose(whitened.T @ whitened, np.eye(2), atol=1e-4)
    said = lexical.arrays["weights"] * np.linalg.norm(whitened, axis=1)
    np.testing.assert_allclose(said[[0, 1, 3]], [np.log(4 / 3.5), np.log(4 / 1.5), np.log(4 / 0.5)], rtol=1e-5)


def test_it_stands_behind_the_pooled_state(late_encoder, lexical_encoder, texts):
    plain = late_encoder.runtime.pool(texts, *_read(late_encoder, texts))
    both = lexical_encoder.runtime.pool(texts, *_read(lexical_encoder, texts))
    hidden = late_encoder.dimension
    assert lexical_encoder.dimension == both.shape[1] == hidden + lexical_encoder.config.lexical.dimension
    np.testing.assert_array_equal(both[:, :hidden], plain)
    np.testing.assert_allclose(np.linalg.norm(both[:, hidden:], axis=1), 1, rtol=1e-5)


def _read(encoder, texts):
    template = encoder.config.templates[0]
    return encoder.runtime.contents(texts, template, None), encoder.runtime.layout(template, None)


def test_it_may_count_more_in_queries(lexical_encoder, texts, tmp_path):
    document = lexical_encoder.config.templates[0]
    config = lexical_encoder.config.replace(query_template=replace(document, lexical=2.0))
    encoder, hidden = lexical_encoder.with_config(config), lexical_encoder.runtime.backbone.dimension
    contents, layout = _read(encoder, texts)
    documents = encoder.runtime.pool(texts, contents, layout)
    queries = encoder.runtime.pool(texts, contents, encoder.runtime.layout(config.templates[1], None))
    np.testing.assert_array_equal(queries[:, :hidden], documents[:, :hidden])
    np.testing.assert_array_equal(queries[:, hidden:], 2 * documents[:, hidden:])
    config.save(tmp_path)
    assert EchoConfig.load(tmp_path) == config
    assert config.fingerprint() != lexical_encoder.config.fingerprint()
    for wrong in (-1, True, "much", float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=rf"lexical={wrong!r}; give a number from 0, such as 1\.0"):
            Template("{text}", lexical=wrong)


def test_a_rare_word_in_common_draws_texts_together(late_encoder, lexical_encoder):
    pair = ["Order 48151 has left the mill.", "Which parcel is 48151?"]
    hidden = late_encoder.dimension
    both = lexical_encoder.runtime.pool(pair, *_read(lexical_encoder, pair))[:, hidden:]
    other = lexical_encoder.runtime.pool(["Which parcel is late?"], *_read(lexical_encoder, ["Which parcel is late?"]))
    assert both[0] @ both[1] > both[0] @ other[0, hidden:] + 0.1


def test_alone_or_in_a_batch_a_text_has_the_same_vector(lexical_encoder, texts):
    together = lexical_encoder.encode_documents(texts)
    alone = np.stack([lexical_encoder.encode_documents(text) for text in texts])
    assert cosines(together, alone).min() > 0.99999


def test_the_vectors_of_tokens_average_to_that_of_the_text(lexical_encoder):
    text = "The ferry leaves the island at dawn."
    runtime = lexical_encoder.runtime
    contents, layout = _read(lexical_encoder, [text])
    mean = runtime.tokens(contents[0], layout).mean(axis=0)
    np.testing.assert_allclose(mean, runtime.pool([text], contents, layout)[0], rtol=1e-4, atol=1e-4)
    assert lexical_encoder.encode_tokens(text).vectors.shape == (len(contents[0].ids), lexical_encoder.dimension)


def test_what_is_pooled_behind_the_copy_counts_too(late_encoder):
    template = Template("{text}\n{text} again", pool_tail=True)
    layout = late_encoder.runtime.layout(template, None)
    again = layout.literals[-1]
    np.testing.assert_array_equal(layout.pooled_ids(ids(7, 8)), [7, 8, *again])
    assert again


def test_it_is_saved_with_the_config(lexical_encoder, texts, tmp_path):
    config = lexical_encoder.config.replace(transforms=(Truncate(600),))
    config.save(tmp_path)
    loaded = EchoConfig.load(tmp_path)
    assert loaded == config
    assert loaded.fingerprint() == config.fingerprint() != config.replace(lexical=None).fingerprint()
    encoder = lexical_encoder.with_config(config)
    encoder.save_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(
        EchoEncoder(tmp_path / "model").encode_documents(texts), encoder.encode_documents(texts)
    )


def test_a_config_without_it_is_written_as_before():
    written = EchoConfig("{text}").to_dict()
    assert "lexical" not in written
    assert "lexical" not in written["template"]


def test_truncation_and_transforms_see_both_parts(lexical_encoder, texts):
    fitted = lexical_encoder.fit_transforms(texts * 2, ["standardize", Truncate(600)])
    assert fitted.encode_documents(texts).shape == (len(texts), 600)
    np.testing.assert_allclose(np.linalg.norm(unit(fitted.encode_documents(texts)), axis=1), 1, rtol=1e-5)


def test_what_cannot_work_is_said(late_encoder, lexical_encoder, tmp_path):
    with pytest.raises(ConfigError, match=r"weights \[vocabulary\], center \[hidden\] and projection \[hidden, dim\]"):
        Lexical([1, 1], [0, 0], [[1], [1], [1]])
    with pytest.raises(ConfigError, match="weights from 0 up; that of token 1 is negative"):
        Lexical([1, -1], [0], [[1]])
    with pytest.raises(ConfigError, match="projection has NaN or infinity"):
        Lexical([1], [0], [[np.nan]])
    with pytest.raises(ConfigError, match="cannot be fitted on no texts; give some thousand"):
        Lexical.fit([], TABLE)
    with pytest.raises(ConfigError, match=r"pooling='last' cannot stand beside .* lexical=None, with transforms=\(\)"):
        EchoConfig("{text}", pooling="last", lexical=BY_HAND)
    with pytest.raises(TypeError, match="lexical='idf' is no Lexical"):
        EchoConfig("{text}", lexical="idf")
    with pytest.raises(ConfigError, match=r"fitted for 4 tokens with embeddings of 2 dimensions, .* has 49152 of 576"):
        late_encoder.with_config(late_encoder.config.replace(lexical=BY_HAND))
    lexical_encoder.config.save(tmp_path)
    (tmp_path / "echo_transforms.safetensors").unlink()
    with pytest.raises(ConfigError, match="the arrays of 'lexical' are missing from"):
        EchoConfig.load(tmp_path)
