"""Which words a text has, beside what they mean together: rare n-grams, hashed into a vector of its own.

Deep states blur what is rare: a name, a number, a drug. Character n-grams keep it, for a look-up and some additions;
they stand beside the echo (docs/training.md, "Words beside the echo"). A lexical part knows no model: it reads strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.errors import ConfigError
from echo_embeddings.text.inputs import chunks
from echo_embeddings.types import Role, Vectors

from .fitted import Fitted
from .ngrams import NGrams, mixed, ngrams
from .normalize import norms

__all__ = ["Lexical"]

#: In how many blocks of how many dimensions an n-gram has its places.
_BLOCKS = (128, 128, 448)
_BUCKETS = 2**15
#: How soon an n-gram that recurs adds little: BM25's k1 at its usual value (Robertson and Zaragoza, 2009, section 3.4).
_SATURATION = 1.2
_AT_A_TIME = 128
#: With a longer part, float32 would keep too few digits of the echo beside it.
_HEAVIEST = 1000

_Array = TypeVar("_Array")


class Lexical(Fitted):
    """The lexical part of a vector: each n-gram's weight, with a sign, at a place in every block that its hash tells.

    What recurs in a text counts as in BM25, and the sum has unit length. The inner product of two such parts is that of
    the weighed n-grams that both texts have, but for collisions (feature hashing, arXiv 0902.2206).

    Where it stands: the echo, mapped by the config's transforms and brought to unit length, and the lexical part, of
    the length that :meth:`weight` says, are laid block by block into one vector: the first 128
    dimensions of the echo, the first 128 of the words, and so on, the last block behind all that is left of the echo.
    So the first 256 or 512 dimensions have a share of both.

    Args:
        weights: ``[buckets]``, from 0: how much the n-grams whose hash ends so say. A power of two.
        blocks: how many dimensions each block has, or a number for one block. An n-gram has one place in each, so early
            blocks are the denser. A block's share of the squared length goes by the root of its width: in wide ones
            less collides (research/log.md, 2026-11-26).
        size: characters of an n-gram.
        document_weight: length of the lexical part of a document, beside an echo of length 1; from 0 to 1000.
        query_weight: the same for queries. Twice the length in queries is better in retrieval, and changes nothing
            between documents (research/log.md, 2026-11-26).

    Raises:
        ConfigError: a count is no power of two or no whole number from 1, or a value is negative, NaN or infinite.
    """

    name = "lexical"
    array_names = ("weights",)
    option_names = ("blocks", "size", "document_weight", "query_weight")

    def __init__(
        self,
        weights: Any,
        blocks: int | Iterable[int] = _BLOCKS,
        size: int = 4,
        document_weight: float = 0.5,
        query_weight: float = 1.0,
    ) -> None:
        blocks = tuple(blocks) if isinstance(blocks, Iterable) else (blocks,)
        lengths = {"document_weight": document_weight, "query_weight": query_weight}
        for name, length in lengths.items():
            if isinstance(length, bool) or not isinstance(length, int | float) or not 0 <= length <= _HEAVIEST:
                raise ConfigError(f"{name}={length!r}: give a number from 0 to {_HEAVIEST}, such as 0.5")
            lengths[name] = float(length)
        super().__init__(arrays={"weights": weights}, options={"blocks": blocks, "size": size, **lengths})
        shape = self.arrays["weights"].shape
        if len(shape) != 1 or shape[0] < 1 or shape[0] & (shape[0] - 1):
            raise ConfigError(f"Lexical needs weights [buckets], a power of two, not {list(shape)}")
        if (self.arrays["weights"] < 0).any():
            bucket = int(self.arrays["weights"].argmin())
            raise ConfigError(f"Lexical needs weights from 0 up; that of bucket {bucket} is negative")
        if not blocks or not all(_whole(width, 1) for width in blocks):
            raise ConfigError(f"blocks={blocks!r}: give the number of dimensions of each block, such as {_BLOCKS}")
        if not _whole(size, 3):
            raise ConfigError(f"size={size!r}: give the number of characters of an n-gram, from 3, such as 4")

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        blocks: int | Iterable[int] = _BLOCKS,
        size: int = 4,
        document_weight: float = 0.5,
        query_weight: float = 1.0,
    ) -> Lexical:
        """Weigh n-grams by their rarity; nothing is trained.

        A weight is the inverse document frequency, ``log((n + 1) / (df + 0.5))``, at least 0.05.

        Args:
            texts: some thousand unlabelled texts like those to come.
            blocks: how many dimensions each block has.
            size: characters of an n-gram.
            document_weight: length of the lexical part of a document, beside an echo of length 1.
            query_weight: the same for queries.

        Raises:
            ConfigError: there are no texts.
            TypeError: it is one string, or a list of it holds something else.
        """
        shape = cls(np.ones(_BUCKETS), blocks, size, document_weight, query_weight)
        frequencies, count = np.zeros(_BUCKETS), 0
        for some in chunks(texts, _AT_A_TIME):
            found = ngrams(some, shape.size)
            seen = np.unique(found.rows * _BUCKETS + shape._buckets(found.hashes)) % _BUCKETS
            frequencies += np.bincount(seen, minlength=_BUCKETS)
            count += len(some)
        if count == 0:
            raise ConfigError("Lexical cannot be fitted on no texts; give some thousand like those to come")
        return cls(np.maximum(np.log((count + 1) / (frequencies + 0.5)), 0.05), **shape.options)

    @property
    def blocks(self) -> tuple[int, ...]:
        """How many dimensions each block has."""
        return tuple(self.options["blocks"])

    @property
    def size(self) -> int:
        """Characters of an n-gram."""
        return int(self.options["size"])

    @property
    def dimension(self) -> int:
        """How many dimensions it adds to a vector."""
        return sum(self.blocks)

    def weight(self, role: Role) -> float:
        """Length of the lexical part in texts of this role, beside an echo of length 1."""
        return float(self.options[f"{role}_weight"])

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The lexical part of each text: float32 ``[n, dimension]``, of unit length, or 0 where there are no words."""
        parts = [self._some(texts[start : start + _AT_A_TIME]) for start in range(0, len(texts), _AT_A_TIME)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def beside(self, echo: _Array, words: _Array) -> list[_Array]:
        """The pieces of a vector in their order, to be joined along the last axis; for arrays and for tensors."""
        one: Any = echo
        other: Any = words
        at, pieces = 0, []
        for width in self.blocks[:-1]:
            piece = (..., slice(at, at + width))
            pieces += [one[piece], other[piece]]
            at += width
        rest = (..., slice(at, None))
        return [*pieces, one[rest], other[rest]]

    def _some(self, texts: Sequence[str]) -> Vectors:
        found = ngrams(texts, self.size)
        says = self.arrays["weights"][self._buckets(found.hashes)].astype(np.float64)
        says *= found.counts * (1 + _SATURATION) / (found.counts + _SATURATION)
        blocks = [self._block(found, says, len(texts), index) for index in range(len(self.blocks))]
        vectors = np.concatenate(blocks, axis=1)
        return (vectors / norms(vectors)).astype(np.float32)

    def _block(self, found: NGrams, says: NDArray[np.float64], texts: int, index: int) -> NDArray[np.float64]:
        width, hashes = self.blocks[index], mixed(found.hashes + np.uint64(index + 1))
        places = found.rows * width + (hashes % np.uint64(width)).astype(np.int64)
        signed = np.where(hashes >> np.uint64(63), says, -says)
        sums: Any = np.bincount(places, signed, minlength=texts * width)
        return np.asarray(sums.reshape(texts, width) * width**0.25, np.float64)

    def _buckets(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes & np.uint64(len(self.arrays["weights"]) - 1)).astype(np.int64)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
