"""What comes out: float32 vectors of unit length, for a text or for each of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TokenEmbeddings", "Vectors", "norms", "unit"]

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class TokenEmbeddings:
    """One vector for each token of a text, each of which has seen the whole text.

    Attributes:
        tokens: ``n`` vocabulary entries.
        offsets: int64 ``[n, 2]``, where each token stands in the text, in characters.
        vectors: float32 ``[n, dim]``, unit length, transforms applied.
    """

    tokens: list[str]
    offsets: NDArray[np.int64]
    vectors: Vectors


def norms(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Lengths of rows, ``[..., 1]``, and 1 for a row of zeros, which can be divided by it."""
    squares = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)[..., None]
    lengths: NDArray[np.float64] = np.sqrt(np.where(squares > 0, squares, 1.0))
    return lengths


def unit(vectors: Vectors) -> Vectors:
    """Rows of unit length. A row of zeros, which has no direction, becomes the first axis."""
    scaled: Vectors = np.divide(vectors, norms(vectors), dtype=np.float32, casting="same_kind")
    scaled[..., 0] = np.where(scaled.any(axis=-1), scaled[..., 0], 1.0)
    return scaled
