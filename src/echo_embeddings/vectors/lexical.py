"""The lexical part of a vector: which words a text has. Its character n-grams are hashed into a vector beside the echo.

The hidden states of deep layers blur rare words: a name, a number, a drug. Character n-grams keep them, and cost a
look-up and a few additions (docs/default-model.md, "Words beside the echo"). This module knows strings and no model.
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

#: The number of dimensions of each block.
_BLOCKS = (128, 128, 448)
_BUCKETS = 2**15
#: How fast an n-gram that recurs adds less: BM25's k1 at its usual value (Robertson and Zaragoza, 2009, section 3.4).
_SATURATION = 1.2
#: Texts whose n-grams are counted together.
_AT_A_TIME = 128
#: The most dimensions of all blocks together, and the longest n-gram: beyond, a damaged config would fill the memory.
_WIDEST, _LONGEST = 2**17, 64
#: The largest weight: float32 keeps enough digits of the echo beside words that are so long.
_HEAVIEST = 1000

_Array = TypeVar("_Array")


class Lexical(Fitted):
    """The words of a text as a vector: each n-gram adds its weight, with a sign, at one place in every block.

    The hash of the n-gram gives the places and signs (feature hashing, arXiv 0902.2206). An n-gram that recurs in a
    text counts as in BM25, and the sum is brought to unit length. The inner product of two such vectors is that of the
    weighed n-grams that both texts have, except where different n-grams collide in one place.

    How the vector of a text is put together: the echo is mapped by the config's transforms and brought to unit length;
    the lexical part is brought to the length :meth:`weight`. Both are laid block by block into one vector: the first
    128 dimensions of the echo, then the first 128 of the words, and so on; the last block of the words follows the rest
    of the echo. So the first 256 or 512 dimensions hold a share of both.

    Args:
        weights: float32 ``[buckets]``, from 0: the weight of the n-grams whose hash ends in this number. The number of
            buckets is a power of two.
        blocks: the number of dimensions of each block, or one number for one block. An n-gram has one place in each
            block, so that narrow blocks have more collisions. The share of a block in the squared length grows with the
            square root of its width, because less collides in wide ones (research/log.md, 2026-11-26).
        size: number of characters of an n-gram, from 3 to 64.
        document_weight: length of the lexical part of a document, beside an echo of length 1; from 0 to 1000.
        query_weight: the same for queries. Twice the length in queries is better in retrieval, and changes nothing
            between documents (research/log.md, 2026-11-26).

    Raises:
        ConfigError: an argument is not as described; the message names it.
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
        if not blocks or not all(_whole(width, 1) for width in blocks) or sum(blocks) > _WIDEST:
            raise ConfigError(
                f"blocks={blocks!r}: give the number of dimensions of each block, such as {_BLOCKS}, together at most "
                f"{_WIDEST}"
            )
        if not _whole(size, 3) or size > _LONGEST:
            raise ConfigError(
                f"size={size!r}: give the number of characters of an n-gram, from 3 to {_LONGEST}, such as 4"
            )

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        blocks: int | Iterable[int] = _BLOCKS,
        size: int = 4,
        document_weight: float = 0.5,
        query_weight: float = 1.0,
    ) -> Lexical:
        """Weigh n-grams by how rare they are in some texts. Nothing is trained.

        The weight is the inverse document frequency, ``log((n + 1) / (df + 0.5))``, and at least 0.05: ``n`` is the
        number of texts, ``df`` the number of those with n-grams in this bucket.

        Args:
            texts: unlabelled texts like those to be embedded; some thousands are enough.
            blocks: the number of dimensions of each block.
            size: number of characters of an n-gram, from 3.
            document_weight: length of the lexical part of a document, beside an echo of length 1.
            query_weight: the same for queries.

        Raises:
            ConfigError: there are no texts.
            TypeError: ``texts`` is one string, or something in it is no string.
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

    def weighted(self, document_weight: float, query_weight: float) -> Lexical:
        """The same weights of n-grams, with another length beside the echo; see the class."""
        lengths = {"document_weight": document_weight, "query_weight": query_weight}
        return Lexical(self.arrays["weights"], **(self.options | lengths))

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of dimensions of each block."""
        return tuple(self.options["blocks"])

    @property
    def size(self) -> int:
        """The number of characters of an n-gram."""
        return int(self.options["size"])

    @property
    def dimension(self) -> int:
        """The number of dimensions of the lexical part."""
        return sum(self.blocks)

    def weight(self, role: Role) -> float:
        """Length of the lexical part in texts of this role, beside an echo of length 1."""
        return float(self.options[f"{role}_weight"])

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """The lexical part of each text: float32 ``[n, dimension]``, of unit length; zeros for a text without words."""
        parts = [self._some(texts[start : start + _AT_A_TIME]) for start in range(0, len(texts), _AT_A_TIME)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)

    def beside(self, echo: _Array, words: _Array) -> list[_Array]:
        """The pieces of the whole vector in their order; join them along the last axis.

        Args:
            echo: ``[..., dim]``, an array or a tensor.
            words: ``[..., dimension]``, the same kind.
        """
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
