"""Character n-grams of words as numbers. Knows strings and arrays only; a batch of texts is one pass of array work."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["NGrams", "mixed", "ngrams"]

# Between white space and punctuation. Not \w+, which takes words of Hindi and its like apart at every vowel sign.
_WORD = re.compile(r"[^\s!-/:-@\[-^`{-\xbf\u2000-\u206f\u3000-\u303f]+")
#: From here on all characters are of words.
_WORDS_ONLY = 0x3040


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
    folded = [unicodedata.normalize("NFKC", text).casefold() for text in texts]
    # A space before each text, and room for the last window. Python encodes a lone surrogate only when told so.
    joined = " ".join(["", *folded, " " * (size - 2)]).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(joined, np.uint32)
    in_word = _in_words()[np.minimum(characters, _WORDS_ONLY)]
    starts = _starts(in_word, size)
    hashes = np.full(len(starts), size, np.uint64)
    ended = np.zeros(len(starts), bool)
    for place in range(size):
        inside = in_word[starts + place]
        # The first n-gram of a word begins at the space before it; behind a short one there is nothing but spaces.
        ended |= ~inside & (place > 0)
        read = np.where(inside & ~ended, characters[starts + place], ord(" "))
        hashes = mixed(hashes + read.astype(np.uint64))
    row_of = np.repeat(np.arange(len(folded)), [len(text) + 1 for text in folded])
    return _counted(row_of[starts], hashes)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits each of which depends on all of the input's: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


@cache
def _in_words() -> NDArray[np.bool_]:
    """Of each character, whether it belongs to words; the last one stands for all behind."""
    known = np.ones(_WORDS_ONLY + 1, bool)
    known[:-1] = [_WORD.match(chr(code)) is not None for code in range(_WORDS_ONLY)]
    return known


def _starts(in_word: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Where n-grams begin: all that end behind their word at the latest, and the first of every word."""
    count = max(len(in_word) - size + 1, 0)
    first = in_word[1 : count + 1]
    whole = first.copy()
    for place in range(2, size - 1):
        whole &= in_word[place : count + place]
    return np.flatnonzero(whole | (first & ~in_word[:count]))


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
