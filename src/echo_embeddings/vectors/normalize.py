"""Bring vectors to unit length, so that an inner product is a cosine. Knows arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import NumericalError
from echo_embeddings.types import Vectors

__all__ = ["norms", "require_finite", "unit"]


def require_finite(vectors: NDArray[Any], texts: Sequence[str] = ()) -> None:
    """Check that no vector has NaN or infinity in it; arguments as for :func:`unit`.

    Raises:
        NumericalError: one has.
    """
    is_broken = ~np.isfinite(vectors).all(axis=-1)
    if not is_broken.any():
        return
    rows = np.flatnonzero(is_broken)
    named = ", ".join(repr(texts[row][:60]) if row < len(texts) else f"row {row}" for row in rows[:3])
    raise NumericalError(
        f"{len(rows)} of {is_broken.size} vectors have NaN or infinity in them, among them that of {named}. The "
        "model's states were finite, so a transform of the config did this; fit it again with "
        "EchoEncoder.fit_transforms"
    )


def norms(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """The length of each row: float64 ``[..., 1]``. It is 1 for a row of zeros, so that one can divide by it."""
    squares = np.einsum("...i,...i->...", vectors, vectors, dtype=np.float64)[..., None]
    lengths: NDArray[np.float64] = np.sqrt(np.where(squares > 0, squares, 1.0))
    return lengths


def unit(vectors: Vectors, texts: Sequence[str] = ()) -> Vectors:
    """The same rows with length 1, float32. A row of zeros has no direction and becomes the first axis.

    Args:
        vectors: ``[..., dim]``.
        texts: the text of each row, to be named in an error; empty if they are not known.

    Raises:
        NumericalError: a row has NaN or infinity in it.
    """
    require_finite(vectors, texts)
    scaled: Vectors = np.divide(vectors, norms(vectors), dtype=np.float32, casting="same_kind")
    scaled[..., 0] = np.where(scaled.any(axis=-1), scaled[..., 0], 1.0)
    return scaled
