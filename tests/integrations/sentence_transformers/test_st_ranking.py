"""``ranked``: a map that gives texts the neighbours that a teacher sees, on states whose right map is known."""

import numpy as np
import pytest

from echo_embeddings import Project
from echo_embeddings.vectors.normalize import unit
from sentence_transformers_echo.training.ranking import ranked


@pytest.fixture(scope="module")
def made():
    """A student's states: the teacher's vectors, turned, stretched unevenly and mixed with noise of its own."""
    draw = np.random.default_rng(0)
    teacher = unit((draw.normal(size=(3000, 16)) * np.linspace(2, 0.5, 16)).astype(np.float32))
    noise = draw.normal(size=(3000, 16)) * 0.3
    mixed = np.linalg.qr(draw.normal(size=(32, 32)))[0] * np.geomspace(5, 0.2, 32)
    return (np.concatenate([teacher, noise], axis=1) @ mixed).astype(np.float32), teacher


def agreement(project, states, teacher, length=None):
    """Share of each text's ten nearest that are the teacher's ten nearest too."""
    ours = unit(project(states)[:, :length])
    best = [np.argsort(-(vectors @ vectors.T), axis=1)[:, 1:11] for vectors in (ours, teacher)]
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*best, strict=True)])


def test_neighbours_of_texts_left_out_become_the_teachers(made):
    states, teacher = made
    start = Project.whiten(states[:2500])
    found = ranked(start, states[:2500], teacher[:2500], [16, 8], steps=150)
    assert found.output_dimension(32) == 16
    held = states[2500:], teacher[2500:]
    assert agreement(found, *held) > agreement(start, *held) + 0.2
    assert agreement(found, *held, 8) > agreement(start, *held, 8) + 0.1


def test_without_steps_only_the_axes_are_turned(made):
    states, teacher = made
    start = Project.whiten(states)
    turned = ranked(start, states, teacher, [32], steps=0)
    few = ranked(start, states[:1999], teacher[:1999], [32], steps=9)
    lengths = [np.linalg.norm(project.arrays["weight"], axis=1) for project in (start, few)]
    np.testing.assert_allclose(*lengths, rtol=1e-4)
    before, after = (unit(project(states[:50])) for project in (start, turned))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)
    assert agreement(turned, states[:500], teacher[:500], 8) > agreement(start, states[:500], teacher[:500], 8)


def test_the_same_seed_gives_the_same_map(made):
    states, teacher = made
    start = Project.whiten(states)
    first, second, other = (ranked(start, states, teacher, [8], steps=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.arrays["weight"], second.arrays["weight"])
    assert not np.array_equal(first.arrays["weight"], other.arrays["weight"])
