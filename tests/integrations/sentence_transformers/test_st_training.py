"""Training through late echo is exact: cached losses equal uncached ones, and those equal one text at a time."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import column_merging_disabled
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from torch.nn.functional import cosine_similarity, cross_entropy

from echo_embeddings import EchoConfig, EchoEncoder
from sentence_transformers_echo import from_encoder, load, save
from tests.conftest import cosines

# Columns of unlike lengths, so that mini-batches are trimmed and columns padded.
ANCHORS = [
    "When does the ferry leave?",
    "bread",
    "Who met on Tuesday, and what did they want to talk about?",
    "x y",
    "",
]
POSITIVES = [
    "The ferry leaves the island at dawn, and again at noon.",
    "Flour, water, salt and time.",
    "The committee.",
    "z",
    "An empty question has any answer.",
]
NEGATIVES = ["The train is late.", "Stone " * 20, "Nobody", "A cat", "b"]
ROLES = EchoConfig(
    "Passage: {text}\nThe passage again: {text} .", "Question: {text}\nAgain: {text}", start_layer=2, exit_layer=5
)


def columns(model, texts=(ANCHORS, POSITIVES, NEGATIVES), first=0):
    """Features of the columns; column 0 holds queries."""
    return [model.preprocess(column, task="document" if i else "query") for i, column in enumerate(texts, start=first)]


def loss_and_gradients(model, loss, features):
    model.zero_grad(set_to_none=True)
    value = loss(features, None)
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(one, other):
    """Losses within 1e-5, each gradient within 1e-4 of its own largest entry (float32)."""
    assert one[0] == pytest.approx(other[0], abs=1e-5)
    assert one[1].keys() == other[1].keys() != set()
    for name, gradient in one[1].items():
        error = (gradient - other[1][name]).abs().max()
        assert error <= 1e-4 * gradient.abs().max(), name


@pytest.mark.parametrize("config", ["echo", "late-echo", ROLES], ids=["echo", "late-echo", "roles"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_cached_uncached_merged_and_single_agree(tiny_encoder, config, attention):
    model = from_encoder(tiny_encoder(config, attn_implementation=attention))
    features = columns(model)
    before = [{key: value.clone() for key, value in column.items()} for column in features]
    uncached = loss_and_gradients(model, MultipleNegativesRankingLoss(model), features)
    for cached in (
        CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
        CachedMultipleNegativesRankingLoss(model, mini_batch_size=1),
    ):
        assert_same(uncached, loss_and_gradients(model, cached, features))
    with column_merging_disabled():
        assert_same(uncached, loss_and_gradients(model, MultipleNegativesRankingLoss(model), features))

    def one_at_a_time(*_):
        rows = [
            torch.cat([model(column)["sentence_embedding"] for text in texts for column in columns(model, [[text]], i)])
            for i, texts in enumerate((ANCHORS, POSITIVES, NEGATIVES))
        ]
        scores = 20 * cosine_similarity(rows[0][:, None], torch.cat(rows[1:])[None], dim=-1)
        return cross_entropy(scores, torch.arange(len(scores)))

    assert_same(uncached, loss_and_gradients(model, one_at_a_time, None))
    for column, kept in zip(features, before, strict=True):
        assert column.keys() == kept.keys() == {"input_ids", "attention_mask", "echo_source", "echo_pooled"}
        assert all(torch.equal(column[key], kept[key]) for key in kept)


def test_the_attention_mask_counts_all_copies(tiny_encoder):
    model = from_encoder(tiny_encoder("echo"))
    one, two = (model.preprocess([text])["attention_mask"].sum().item() for text in ("a", "a a a a a"))
    assert two - one == 2 * 4


def test_the_budget_of_a_cached_loss_is_in_doubled_tokens(tiny_encoder):
    model = from_encoder(tiny_encoder())
    features = columns(model)
    uncached = loss_and_gradients(model, MultipleNegativesRankingLoss(model), features)
    budget = CachedMultipleNegativesRankingLoss(model, mini_batch_size=8, mini_batch_num_tokens=64)
    assert_same(uncached, loss_and_gradients(model, budget, features))


def test_transforms_and_matryoshka_train(tiny_encoder, texts):
    model = from_encoder(tiny_encoder().fit_transforms(texts, ["standardize"]))
    features = columns(model)
    dims = {"matryoshka_dims": [32, 8]}
    plain = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), **dims)
    cached = MatryoshkaLoss(model, CachedMultipleNegativesRankingLoss(model, mini_batch_size=2), **dims)
    assert_same(loss_and_gradients(model, plain, features), loss_and_gradients(model, cached, features))


# transformers has renamed what sentence-transformers 6.2 calls.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(tiny_encoder):
    model = from_encoder(tiny_encoder())
    features, loss = columns(model), MultipleNegativesRankingLoss(model)
    plain = loss_and_gradients(model.train(), loss, features)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same(plain, loss_and_gradients(model.train(), loss, features))


def test_an_optimiser_step_reaches_the_saved_folder(tiny_encoder, tmp_path, texts):
    encoder = tiny_encoder()
    before = encoder.encode_documents(texts)
    model = from_encoder(encoder)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        value, _ = loss_and_gradients(model, MultipleNegativesRankingLoss(model), columns(model))
        optimiser.step()
        losses.append(value)
    assert losses[-1] < losses[0]
    save(model, tmp_path)
    after = model.encode(texts)
    assert cosines(before, after).min() < 0.9999
    assert cosines(EchoEncoder(tmp_path).encode_documents(texts), after).min() > 0.99999


# peft 0.21 asks by the name that transformers has given up.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_are_added_trained_saved_and_loaded(tiny_encoder, tmp_path, texts):
    base, adapted = tmp_path / "base", tmp_path / "adapted"
    save(tiny_encoder(), base)
    model = load(base)
    plain = model.encode(texts)
    model.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj"], r=4))
    loss = MultipleNegativesRankingLoss(model)
    _, gradients = loss_and_gradients(model, loss, columns(model))
    assert gradients
    assert all("lora_" in name for name in gradients)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=5.0)
    for _ in range(3):
        loss_and_gradients(model, loss, columns(model))
        optimiser.step()
    trained = model.encode(texts)
    assert cosines(plain, trained).min() < 0.9999
    save(model, adapted)
    assert not (adapted / "model.safetensors").exists()
    assert not (adapted / "config.json").exists()
    assert cosines(load(adapted).encode(texts), trained).min() > 0.99999
    flagged = SentenceTransformer(str(adapted), trust_remote_code=True)
    assert cosines(flagged.encode(texts), trained).min() > 0.99999
    for merged in (EchoEncoder(adapted), EchoEncoder(base, EchoConfig.load(adapted), adapter=adapted)):
        assert cosines(merged.encode_documents(texts), trained).min() > 0.9999
    model.disable_adapters()
    np.testing.assert_allclose(model.encode(texts), plain, atol=1e-6)
