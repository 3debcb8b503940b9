"""Character n-grams of words as numbers. Knows strings and arrays only; a batch of texts is one pass of array work."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NGrams", "mixed", "ngrams"]

# Between white space and punctuation. Not \w+, which takes words of Hindi and its like apart at every vowel sign.
_WORD = re.compile(r"[^\s!-/:-@\[-^`{-\xbf\u2000-\u206f\u3000-\u303f]+")


@dataclass(frozen=True)
class NGrams:
    """The distinct n-grams of texts, text by text and in an order that no other text changes.

    Attributes:
        rows: int64 ``[m]``, which text each is of.
        hashes: uint64 ``[m]``, the same number for the same n-gram on every machine.
        counts: float64 ``[m]``, how often it stands there.
    """

    rows: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    counts: NDArray[np.float64]


def ngrams(texts: Sequence[str], size: int) -> NGrams:
    """The n-grams of ``size`` characters of each word between two spaces: of ``" mill "``, for 4, three.

    Case and Unicode's compatibility forms make no difference; a word that is too short is one n-gram of its own.
    """
    found = [_WORD.findall(unicodedata.normalize("NFKC", text).casefold()) for text in texts]
    words = [word.ljust(size - 2) for own in found for word in own]
    # A lone surrogate is a character too; Python encodes it only when told so.
    joined = f" {'  '.join(words)} " if words else ""
    characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, words), np.int64, len(words)) + 2
    word_of = np.repeat(np.arange(len(words)), lengths)
    starts = np.flatnonzero(word_of[: len(word_of) - size + 1] == word_of[size - 1 :])
    hashes = np.full(len(starts), size, np.uint64)
    for place in range(size):
        hashes = mixed(hashes + characters[starts + place])
    rows = np.repeat(np.arange(len(texts)), [len(own) for own in found])[word_of[starts]]
    return _counted(rows, hashes)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits each of which depends on all of the input's: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _counted(rows: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NGrams:
    # By row, then by hash. Numbers of 16 bits are sorted without comparing; rows are few (``lexical``).
    order = np.argsort(hashes)
    small = np.uint16 if rows.size == 0 or rows.max() < 2**16 else np.int64
    order = order[np.argsort(rows[order].astype(small), kind="stable")]
    rows, hashes = rows[order], hashes[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    places = np.flatnonzero(first)
    counts = np.diff(np.append(places, len(rows))).astype(np.float64)
    return NGrams(rows[places], hashes[places], counts)
