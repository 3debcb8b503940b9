"""Character n-grams of words as numbers, for a batch of texts at once. Knows strings and arrays only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["NGrams", "mixed", "ngrams"]

# What stands between white space and punctuation. Not \w+, which splits words of Hindi at every vowel sign.
_WORD = re.compile(r"[^\s!-/:-@\[-^`{-\xbf\u2000-\u206f\u3000-\u303f]+")
#: All characters from this one on belong to words.
_WORDS_ONLY = 0x3040


@dataclass(frozen=True)
class NGrams:
    """The distinct n-grams of each text, text by text. The order within a text does not depend on the other texts.

    Attributes:
        rows: int64 ``[m]``, the number of the text.
        hashes: uint64 ``[m]``, the hash of the n-gram, which is the same on every machine.
        counts: float64 ``[m]``, how often the n-gram stands in the text.
    """

    rows: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    counts: NDArray[np.float64]


def ngrams(texts: Sequence[str], size: int) -> NGrams:
    """The n-grams of each word, taken with a space before and behind it: with ``size`` 4, ``" mill "`` has three.

    Upper and lower case are the same, and so are Unicode's compatibility forms. A word that is shorter than an n-gram
    is one n-gram.
    """
    folded = [unicodedata.normalize("NFKC", text).casefold() for text in texts]
    # A space before each text, and spaces behind the last one, so that its last n-gram is as long as any other.
    # "surrogatepass", because a text may have a lone surrogate.
    joined = " ".join(["", *folded, " " * (size - 2)]).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(joined, np.uint32)
    in_word = _in_words()[np.minimum(characters, _WORDS_ONLY)]
    starts = _starts(in_word, size)
    hashes = np.full(len(starts), size, np.uint64)
    ended = np.zeros(len(starts), bool)
    for place in range(size):
        inside = in_word[starts + place]
        # The first n-gram of a word begins at the space before it. Behind the end of a short word are only spaces.
        ended |= ~inside & (place > 0)
        character = np.where(inside & ~ended, characters[starts + place], ord(" "))
        hashes = mixed(hashes + character.astype(np.uint64))
    row_of = np.repeat(np.arange(len(folded)), [len(text) + 1 for text in folded])
    return _counted(row_of[starts], hashes)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64 bits so that each depends on all: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


@cache
def _in_words() -> NDArray[np.bool_]:
    """For each character below ``_WORDS_ONLY`` whether it belongs to words; the last entry is for all others."""
    known = np.ones(_WORDS_ONLY + 1, bool)
    known[:-1] = [_WORD.match(chr(code)) is not None for code in range(_WORDS_ONLY)]
    return known


def _starts(in_word: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Where n-grams begin: the first of every word, and all that end at the space behind their word or before."""
    count = max(len(in_word) - size + 1, 0)
    first = in_word[1 : count + 1]
    whole = first.copy()
    for place in range(2, size - 1):
        whole &= in_word[place : count + place]
    return np.flatnonzero(whole | (first & ~in_word[:count]))


def _counted(rows: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NGrams:
    # By row, then by hash. numpy sorts numbers of 16 bits by radix, which is faster; there are few rows at a time.
    order = np.argsort(hashes)
    small = np.uint16 if rows.size == 0 or rows.max() < 2**16 else np.int64
    order = order[np.argsort(rows[order].astype(small), kind="stable")]
    rows, hashes = rows[order], hashes[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    places = np.flatnonzero(first)
    counts = np.diff(np.append(places, len(rows))).astype(np.float64)
    return NGrams(rows[places], hashes[places], counts)
