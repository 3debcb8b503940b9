"""Smaller vectors: by hand, and as sentence-transformers makes them."""

import re

import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import DTYPES, width
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.precision import MARGIN, PRECISIONS, Ranges, reduced, require_precision, restored


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
