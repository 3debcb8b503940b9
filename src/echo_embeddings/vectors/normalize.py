"""Vectors of unit length, so that an inner product is a cosine. Knows arrays only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.types import Vectors

__all__ = ["norms", "unit"]


def norms(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Lengths of rows: float64 ``[..., 1]``. A row of zeros gets 1, so that it can be divided by its length."""
    squares = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)[..., None]
    lengths: NDArray[np.float64] = np.sqrt(np.where(squares > 0, squares, 1.0))
    return lengths


def unit(vectors: Vectors) -> Vectors:
    """Rows of unit length, float32. A row of zeros, which has no direction, becomes the first axis."""
    scaled: Vectors = np.divide(vectors, norms(vectors), dtype=np.float32, casting="same_kind")
    scaled[..., 0] = np.where(scaled.any(axis=-1), scaled[..., 0], 1.0)
    return scaled
