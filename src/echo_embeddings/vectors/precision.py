"""Smaller vectors: fewer bytes for each number. Knows arrays only.

The meanings are those of sentence-transformers' ``quantize_embeddings``, so that vectors of both go together:

- ``"float32"``: four bytes a dimension, as they are.
- ``"float16"``: two bytes; rounded.
- ``"int8"``: one byte; the range of each dimension in 256 steps, -128 to 127. The ranges are fitted (:class:`Ranges`).
- ``"ubinary"``: one bit; whether the number is above 0. Eight dimensions make one unsigned byte.

Zeros have no sign, and where a vector has words beside the echo, most of its numbers are zeros. Such vectors are turned
(:func:`turned`) before their bits are taken; ``quantize_embeddings(turned(vectors), "ubinary")`` gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import DTYPES, Vectors

from .fitted import Fitted
from .ngrams import mixed
from .normalize import unit

__all__ = ["MARGIN", "PRECISIONS", "Ranges", "reduced", "require_precision", "restored", "turned", "widest"]

#: What each precision is, for messages and for the documentation.
PRECISIONS: dict[str, str] = {
    "float32": "four bytes a dimension",
    "float16": "two bytes a dimension",
    "int8": "one byte a dimension",
    "ubinary": "one bit a dimension",
}
#: Steps between the smallest and the largest number of a dimension, and what is taken off to make the byte signed.
_STEPS, _SIGNED = 255, 128
# Vectors that are turned together: their numbers stay in the processor's cache.
_AT_A_TIME = 64

#: The share of a dimension's range that is added on both sides: texts to come go beyond those that it was fitted on. Of
#: single words as queries about 5 in 1,024 dimensions did, and cosines to the whole vectors fell to 0.96 (2026-11-28).
MARGIN = 0.3


class Ranges(Fitted):
    """The smallest and the largest number in each dimension of unit vectors, for ``"int8"``.

    A vector that is shortened is brought to unit length again, so each length of vectors has ranges of its own.

    Args:
        limits: float32 ``[2, sum(lengths)]``: the smallest and the largest numbers, one length after the other.
        lengths: the lengths of vectors that there are ranges for, such as ``(1024, 512, 256)``.

    Raises:
        ConfigError: an argument is not as described; the message names it.
    """

    name = "ranges"
    array_names = ("limits",)
    option_names = ("lengths",)

    def __init__(self, limits: Any, lengths: Iterable[int]) -> None:
        lengths = tuple(lengths)
        if not lengths or not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in lengths):
            raise ConfigError(f"lengths={lengths!r}: give whole numbers above 0, such as (1024, 512, 256)")
        super().__init__(arrays={"limits": limits}, options={"lengths": lengths})
        shape = self.arrays["limits"].shape
        if shape != (2, sum(lengths)):
            raise ConfigError(f"Ranges needs limits [2, {sum(lengths)}] for lengths={lengths}, not {list(shape)}")
        low, high = self.arrays["limits"]
        if (low > high).any():
            place = int((low > high).argmax())
            raise ConfigError(f"limits[:, {place}] = {low[place]}, {high[place]}: the first must not be the larger one")

    @classmethod
    def fit(cls, vectors: Vectors, lengths: Iterable[int] = ()) -> Ranges:
        """Take the ranges of some vectors, made wider by :data:`MARGIN` of themselves on both sides.

        Args:
            vectors: float32 ``[n, dim]``, unit length, of texts like those to come; some hundred at least.
            lengths: shorter lengths that vectors may be truncated to; ``dim`` is always among them.

        Raises:
            ConfigError: there are fewer than two vectors.
        """
        if vectors.ndim != 2 or len(vectors) < 2:
            raise ConfigError(
                f"ranges cannot be fitted on vectors of shape {list(vectors.shape)}: give at least two texts, better "
                "some hundred like those that will be embedded"
            )
        wanted = dict.fromkeys([vectors.shape[1], *(one for one in lengths if one < vectors.shape[1])])
        return cls(np.concatenate([widest(unit(vectors[:, :length])) for length in wanted], axis=1), wanted)

    def of(self, dimension: int) -> Vectors | None:
        """The ranges of vectors of one length: float32 ``[2, dimension]``; ``None`` if they were not fitted."""
        lengths = self.options["lengths"]
        if dimension not in lengths:
            return None
        start = sum(lengths[: lengths.index(dimension)])
        found: Vectors = self.arrays["limits"][:, start : start + dimension]
        return found


def widest(vectors: Vectors) -> Vectors:
    """The smallest and the largest number of each dimension of ``[n, dim]``, with the margin: float32 ``[2, dim]``."""
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    margin = np.maximum(high - low, 1e-6) * np.float32(MARGIN)
    return np.stack([low - margin, high + margin])


def require_precision(precision: object) -> None:
    """Check the name of a precision.

    Raises:
        ConfigError: it is unknown.
    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        choices = ", ".join(f"{name!r} ({what})" for name, what in PRECISIONS.items())
        raise ConfigError(f"precision={precision!r} is unknown; choose one of {choices}")


def reduced(vectors: Vectors, precision: str, ranges: Vectors | None = None, *, turns: bool = False) -> NDArray[Any]:
    """Unit vectors in another precision.

    Args:
        vectors: float32 ``[..., dim]``.
        precision: a name in :data:`PRECISIONS`.
        ranges: float32 ``[2, dim]``, needed for ``"int8"``. Numbers beyond them become the nearest end.
        turns: whether ``"ubinary"`` takes the bits of the vectors as :func:`turned`, or as they are.

    Returns:
        ``[..., width]`` in the precision's dtype.
    """
    if precision == "ubinary":
        return np.packbits((turned(vectors) if turns else vectors) > 0, axis=-1)
    if precision != "int8":
        return vectors.astype(DTYPES[precision], copy=False)
    starts, steps = _steps(ranges)
    stepped: NDArray[Any] = np.clip(np.floor((vectors - starts) / steps), 0, _STEPS) - _SIGNED
    return stepped.astype(np.int8)


def restored(
    vectors: NDArray[Any], precision: str, dimension: int, ranges: Vectors | None = None, *, turns: bool = False
) -> Vectors:
    """What :func:`reduced` made as unit vectors again, as near as can be: float32 ``[..., dimension]``.

    Args:
        vectors: ``[..., width]``.
        precision: that of ``vectors``.
        dimension: of the vectors before.
        ranges: as for :func:`reduced`.
        turns: as for :func:`reduced`.
    """
    if precision == "ubinary":
        bits = np.unpackbits(np.asarray(vectors, np.uint8), axis=-1)[..., :dimension]
        signs = unit(bits * np.float32(2) - np.float32(1))
        return turned(signs, back=True) if turns else signs
    if precision == "int8":
        starts, steps = _steps(ranges)
        # The middle of the step that a number fell into.
        return unit((vectors.astype(np.float32) + (_SIGNED + 0.5)) * steps + starts)
    return unit(vectors.astype(np.float32))


def turned(vectors: Vectors, *, back: bool = False) -> Vectors:
    """Turn vectors so that each number goes into all dimensions. Lengths and cosines stay as they are.

    The rotation is always the same for vectors of one length, and needs nothing that is fitted: random signs and a
    Hadamard transform, twice (Ailon and Chazelle, 2009; for bits: RaBitQ, arXiv 2405.12497). If the length is no power
    of two, the transform is applied to the first and to the last so many dimensions in turn, four times.

    Args:
        vectors: float32 ``[..., dim]``.
        back: undo it.

    Returns:
        float32 ``[..., dim]``, a copy.
    """
    found = np.array(vectors, dtype=np.float32, order="C")
    rows = found.reshape(-1, found.shape[-1])
    for start in range(0, len(rows), _AT_A_TIME):
        _turn(rows[start : start + _AT_A_TIME], back=back)
    return found


def _turn(rows: Vectors, *, back: bool) -> None:
    """Turn ``[n, dim]`` in place. Sums are made in one order, whatever ``n`` is, so equal vectors have equal bits."""
    dimension = rows.shape[1]
    width = 1 << (dimension.bit_length() - 1)
    steps = list(enumerate(_signs(dimension, 2 if width == dimension else 4)))
    for number, signs in reversed(steps) if back else steps:
        part = rows[:, dimension - width :] if number % 2 else rows[:, :width]
        if back:
            part[:] = _hadamard(part)
            rows *= signs
        else:
            rows *= signs
            part[:] = _hadamard(part)


@lru_cache(maxsize=16)
def _signs(dimension: int, steps: int) -> Vectors:
    """Random signs, the same on every machine: float32 ``[steps, dimension]``."""
    drawn = mixed(np.arange(steps * dimension, dtype=np.uint64)) >> np.uint64(63)
    return np.where(drawn, np.float32(1), np.float32(-1)).reshape(steps, dimension)


def _hadamard(rows: Vectors) -> Vectors:
    """The orthogonal Hadamard transform of ``[n, width]``, a power of two; it is its own inverse."""
    width = rows.shape[1]
    for _ in range(width.bit_length() - 1):
        even, odd = rows[:, ::2], rows[:, 1::2]
        rows = np.concatenate([even + odd, even - odd], axis=1)
    return rows * np.float32(width**-0.5)


def _steps(ranges: Vectors | None) -> tuple[Vectors, Vectors]:
    if ranges is None:
        raise ConfigError("precision='int8' needs the ranges of each dimension; EchoEncoder.fit_ranges fits them")
    steps = (ranges[1] - ranges[0]) / np.float32(_STEPS)
    return ranges[0], np.where(steps == 0, np.float32(1), steps)
