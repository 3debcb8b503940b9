"""Bring vectors to unit length, so that an inner product is a cosine. Knows arrays only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.types import Vectors

__all__ = ["norms", "unit"]


def norms(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """The length of each row: float64 ``[..., 1]``. It is 1 for a row of zeros, so that one can divide by it."""
    squares = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)[..., None]
    lengths: NDArray[np.float64] = np.sqrt(np.where(squares > 0, squares, 1.0))
    return lengths


def unit(vectors: Vectors) -> Vectors:
    """The same rows with length 1, float32. A row of zeros has no direction and becomes the first axis."""
    scaled: Vectors = np.divide(vectors, norms(vectors), dtype=np.float32, casting="same_kind")
    scaled[..., 0] = np.where(scaled.any(axis=-1), scaled[..., 0], 1.0)
    return scaled
