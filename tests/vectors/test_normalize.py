import numpy as np
import pytest

from echo_embeddings import NumericalError
from echo_embeddings.vectors.normalize import norms, unit


def test_rows_get_length_one():
    vectors = unit(np.array([[3, 4], [0, -2]], np.float32))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, -1]], rtol=1e-6)


def test_a_row_of_zeros_becomes_the_first_axis():
    assert norms(np.zeros((1, 3))).tolist() == [[1]]
    assert unit(np.zeros((2, 3), np.float32)).tolist() == [[1, 0, 0]] * 2
    assert unit(np.zeros(3, np.float32)).tolist() == [1, 0, 0]


def test_large_and_small_rows_keep_their_direction():
    """Squares beyond float32 are no matter, because lengths are computed in float64."""
    vectors = unit(np.array([[3e30, 4e30], [3e-30, 4e-30]], np.float32))
    np.testing.assert_allclose(vectors, [[0.6, 0.8]] * 2, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_direction(value):
    vectors = np.ones((3, 2), np.float32)
    vectors[1, 1] = value
    with pytest.raises(
        NumericalError, match="1 of 3 vectors have NaN or infinity in them, among them that of 'second'"
    ):
        unit(vectors, ["first", "second", "third"])
    with pytest.raises(NumericalError, match="that of row 1"):
        unit(vectors)
    with pytest.raises(NumericalError, match="1 of 1 vectors"):
        unit(vectors[1])
