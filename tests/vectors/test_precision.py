"""Smaller vectors: by hand, and as sentence-transformers makes them."""

import re

import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import DTYPES, width
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import MARGIN, PRECISIONS, Ranges, reduced, require_precision, restored, turned


@pytest.fixture(scope="module")
def vectors():
    return unit(np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32))


def test_every_precision_by_hand():
    vector = np.array([[0.6, -0.8, 0.0]], dtype=np.float32)
    ranges = np.array([[-1.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=np.float32)
    assert reduced(vector, "float32") is vector
    assert reduced(vector, "float16").tolist() == np.float16([[0.6, -0.8, 0.0]]).tolist()
    # The first is 0.8 of its range, step 204 of 255 or just below; the second 0.2, step 51; the third has no range.
    np.testing.assert_allclose(reduced(vector, "int8", ranges).astype(int), [[204 - 128, 51 - 128, -128]], atol=1)
    assert reduced(vector, "ubinary").tolist() == [[0b10000000]]  # only 0.6 is above 0


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "float16"])
def test_the_same_numbers_as_sentence_transformers(vectors, precision):
    ranges = Ranges.fit(vectors).of(20)
    theirs = quantize_embeddings(vectors[:50], precision, ranges=ranges)
    ours = reduced(vectors[:50], precision, ranges)
    assert ours.dtype == theirs.dtype == DTYPES[precision]
    assert ours.shape == theirs.shape == (50, width(20, precision))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("precision", "cosine"), [("float32", 1 - 1e-6), ("float16", 0.99999), ("int8", 0.9999)])
def test_what_is_restored_is_near(vectors, precision, cosine):
    ranges = Ranges.fit(vectors).of(20)
    again = restored(reduced(vectors, precision, ranges), precision, 20, ranges)
    assert again.dtype == np.float32
    assert (again * vectors).sum(axis=1).min() > cosine
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, atol=1e-6)


def test_bits_keep_signs_only(vectors):
    again = restored(reduced(vectors, "ubinary"), "ubinary", 20)
    assert again.shape == (300, 20)
    np.testing.assert_array_equal(again > 0, vectors > 0)
    np.testing.assert_allclose(np.abs(again), 20**-0.5, rtol=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3, 20, 64, 576])
def test_vectors_are_turned_as_a_whole_and_back(dimension):
    vectors = unit(np.random.default_rng(0).normal(size=(150, dimension)).astype(np.float32))
    found = turned(vectors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-5)
    np.testing.assert_allclose(turned(found, back=True), vectors, atol=1e-6)
    np.testing.assert_array_equal(turned(vectors[70]), found[70])  # bit by bit, beside whichever others
    np.testing.assert_array_equal(turned(vectors[70:].reshape(2, 40, dimension))[1], found[110:])
    assert turned(vectors[:0]).shape == (0, dimension)


def test_vectors_are_turned_alike_on_every_machine():
    """Indexes on disk depend on it."""
    by_hand = np.eye(2, dtype=np.float32)
    for signs in ([1, 1], [1, -1]):
        by_hand = (by_hand * np.float32(signs)) @ np.array([[1, 1], [1, -1]], np.float32) / np.float32(2**0.5)
    np.testing.assert_allclose(turned(np.eye(2, dtype=np.float32)), by_hand, atol=1e-6)
    bits = reduced(np.eye(20, dtype=np.float32)[[0, 7, 19]], "ubinary", turns=True)
    assert bits.tolist() == [[144, 226, 192], [1, 102, 48], [183, 75, 144]]


def test_bits_of_turned_vectors_keep_what_zeros_lose():
    chance = np.random.default_rng(0)
    words = np.where(chance.random((200, 256)) < 0.1, chance.normal(size=(200, 256)), 0).astype(np.float32)
    words = unit(words + np.roll(words, 1, axis=0))  # neighbours are alike
    whole = (words @ words.T).ravel()

    def alike(turns):
        bits = reduced(words, "ubinary", turns=turns)
        np.testing.assert_array_equal(bits, quantize_embeddings(turned(words) if turns else words, "ubinary"))
        again = restored(bits, "ubinary", 256, turns=turns)
        np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, atol=1e-5)
        both = (again @ again.T).ravel()
        return np.corrcoef(whole, (words @ again.T).ravel())[0, 1], np.corrcoef(whole, both)[0, 1]

    assert min(alike(turns=True)) > 0.8 > max(alike(turns=False))


def test_one_vector_and_none():
    assert reduced(np.ones(9, np.float32) / 3, "ubinary").shape == (2,)
    assert reduced(np.empty((0, 9), np.float32), "ubinary").shape == (0, 2)
    assert restored(np.empty((0, 2), np.uint8), "ubinary", 9).shape == (0, 9)


def test_ranges_of_every_length_are_of_unit_vectors(vectors):
    ranges = Ranges.fit(vectors, [8, 4, 20, 64])
    assert ranges.options["lengths"] == (20, 8, 4)
    shorter = unit(vectors[:, :8])
    low, high = shorter.min(axis=0), shorter.max(axis=0)
    margin = (high - low) * MARGIN
    np.testing.assert_allclose(ranges.of(8), [low - margin, high + margin], rtol=1e-6)
    assert ranges.of(7) is None
    assert Ranges.fit(vectors) != ranges == Ranges.fit(vectors, [8, 4])


def test_numbers_beyond_the_ranges_become_their_ends():
    ranges = np.array([[-0.1], [0.1]], dtype=np.float32)
    assert reduced(np.array([[-1.0], [1.0]], np.float32), "int8", ranges).tolist() == [[-128], [127]]


@pytest.mark.parametrize(
    ("limits", "lengths", "message"),
    [
        (np.zeros((2, 3)), (4,), "limits [2, 4] for lengths=(4,), not [2, 3]"),
        (np.zeros((3,)), (3,), "limits [2, 3] for lengths=(3,), not [3]"),
        ([[1.0, 0.5], [2.0, 0.2]], (2,), "limits[:, 1] = 0.5, 0.2"),
        (np.zeros((2, 0)), (), "lengths=()"),
        (np.zeros((2, 1)), (True,), "lengths=(True,)"),
        ([[np.nan], [1.0]], (1,), "NaN or infinity"),
    ],
)
def test_what_are_no_ranges(limits, lengths, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Ranges(limits, lengths)


def test_errors_name_what_is_valid(vectors):
    with pytest.raises(ConfigError, match=r"precision='int4' is unknown; choose one of 'float32' \(four bytes"):
        require_precision("int4")
    with pytest.raises(ConfigError, match=r"EchoEncoder\.fit_ranges fits them"):
        reduced(vectors, "int8")
    with pytest.raises(ConfigError, match="give at least two texts"):
        Ranges.fit(vectors[:1])
