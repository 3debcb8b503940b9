"""What comes out: float32 vectors of unit length, for a text or for each of its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TokenEmbeddings", "Vectors", "unit"]

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


def unit(vectors: Vectors) -> Vectors:
    """Rows of unit length. A row of zeros, which has no direction, becomes the first axis."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    scaled: Vectors = (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)
    scaled[..., 0] = np.where(norms[..., 0] > 0, scaled[..., 0], 1.0)
    return scaled
