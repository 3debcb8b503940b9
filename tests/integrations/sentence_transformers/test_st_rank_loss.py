"""``loss: rank``: the loss against the same sums in numpy, and batches whose texts are each other's neighbours."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.special import log_softmax
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from echo_embeddings import Project
from echo_embeddings.vectors.normalize import unit
from sentence_transformers_echo import from_encoder
from sentence_transformers_echo.training.losses import RankDistillLoss
from sentence_transformers_echo.training.samplers import RANKED, NeighbourBatchSampler, pick


@pytest.fixture
def student(tiny_encoder):
    model = from_encoder(tiny_encoder("late-echo"))
    dense = Dense(32, 8, activation_function=torch.nn.Identity())
    return SentenceTransformer(modules=[model[0], model[1], dense, Normalize()], similarity_fn_name="cosine")


def divergence(vectors, likeness):
    """Of the softmaxes over the other texts, at temperature 0.05, averaged over texts."""
    rows = []
    for i in range(len(vectors)):
        others = np.arange(len(vectors)) != i
        ours, theirs = (log_softmax(cosines[others] / 0.05) for cosines in (vectors @ vectors[i], likeness[i]))
        rows.append((np.exp(theirs) * (theirs - ours)).sum())
    return np.mean(rows)


def test_the_loss_is_that_of_the_formula(student, texts):
    draw = np.random.default_rng(0)
    project = Project(draw.normal(size=(32, 16)), draw.normal(size=16))
    labels = unit(draw.normal(size=(len(texts), 8)).astype(np.float32))
    loss = RankDistillLoss(student, project, (16, 8))([student.preprocess(texts)], torch.from_numpy(labels))
    states = SentenceTransformer(modules=[student[0], student[1]]).encode(texts)
    ranks = [divergence(unit(project(states)[:, :n]).astype(float), labels @ labels.T) for n in (16, 8)]
    directions = (student.encode(texts) * labels).sum(axis=1)
    assert loss.item() == pytest.approx(np.mean(ranks) + 2 * np.mean(1 - directions), rel=1e-4)


def test_it_teaches_the_model_and_leaves_the_map(student, texts):
    project = Project(np.random.default_rng(0).normal(size=(32, 16)), np.zeros(16))
    labels = torch.nn.functional.normalize(torch.randn(len(texts), 8, generator=torch.Generator().manual_seed(0)))
    loss = RankDistillLoss(student, project, (16,))
    assert {name.removeprefix("model.") for name, _ in loss.named_parameters()} == dict(
        student.named_parameters()
    ).keys()
    optimiser = torch.optim.Adam(loss.parameters(), 3e-3)
    values = []
    for _ in range(8):
        optimiser.zero_grad()
        value = loss([student.preprocess(texts)], labels)
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


@pytest.fixture(scope="module")
def crowd():
    """Ten crowds of 16 texts, whose vectors are near each other."""
    draw = np.random.default_rng(0)
    centres = np.repeat(np.eye(10), 16, axis=0)
    vectors = unit((centres + 0.05 * draw.normal(size=centres.shape)).astype(np.float32))
    order = draw.permutation(160)
    rows = {RANKED: [f"text {i}" for i in order], "label": list(vectors[order])}
    return Dataset.from_dict(rows), order // 16


def test_a_batch_is_made_of_neighbours_and_an_epoch_of_all_texts(crowd):
    dataset, kinds = crowd
    sampler = pick(dataset, lambda texts: [1] * len(texts), 32, drop_last=False, seed=3)
    assert isinstance(sampler, NeighbourBatchSampler)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(160))
    assert [len(batch) for batch in batches] == [32] * 5
    groups = np.array([kinds[row] for batch in batches for row in batch]).reshape(20, 8)
    alike = (groups == groups[:, :1]).mean()
    assert alike > 0.6  # by chance 0.2; what is left of two crowds makes mixed groups
    assert all(len(set(batch)) > 1 for batch in groups.reshape(5, 32))


def test_batches_follow_seed_and_epoch(crowd):
    dataset, _ = crowd
    one, same, other = (NeighbourBatchSampler(dataset, 32, drop_last=False, seed=seed) for seed in (1, 1, 2))
    assert list(one) == list(same) != list(other)
    same.set_epoch(1)
    assert list(one) != list(same)


def test_few_texts_make_one_group():
    dataset = Dataset.from_dict({RANKED: ["a", "b", "c"], "label": np.eye(3).tolist()})
    assert [sorted(batch) for batch in NeighbourBatchSampler(dataset, 8, drop_last=False)] == [[0, 1, 2]]
    assert not list(NeighbourBatchSampler(dataset, 8, drop_last=True))
