"""Two numbers from unlabelled texts that rank configurations: how well the halves of a text find each other.

Knows vectors and texts, no model. How they were chosen, and what did not work, is in docs/guides/tune.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.data.words import ends_of_words
from echo_embeddings.errors import InputError
from echo_embeddings.types import Vectors

__all__ = ["Halves", "beginning", "usable"]

#: Fewer texts say too little, and shorter ones have no halves.
FEWEST_TEXTS, FEWEST_WORDS = 40, 6
# A word has at most so many characters on average: a text may have what is no word, such as a picture in base64.
_LONGEST = 32


@dataclass(frozen=True)
class Halves:
    """Texts, and their halves.

    Attributes:
        wholes: the texts.
        firsts: the first half of each, by words.
        seconds: the second half of each.
    """

    wholes: list[str]
    firsts: list[str]
    seconds: list[str]

    #: How much words say beside the echo. Halves cannot judge it: short ones have hardly a word in common. This is what
    #: was best with labels, on two models and with every transform (docs/guides/tune.md).
    shares = (0.5,)

    @classmethod
    def of(cls, texts: Sequence[str], words: int) -> Halves:
        """Split texts at their middle; only the first ``words`` words of each count."""
        wholes = [beginning(text, words) for text in texts]
        ends = [ends_of_words(whole, words) for whole in wholes]
        middles = [some[(len(some) + 1) // 2 - 1] if some else 0 for some in ends]
        return cls(
            wholes,
            [whole[:middle] for whole, middle in zip(wholes, middles, strict=True)],
            [whole[middle:].lstrip() for whole, middle in zip(wholes, middles, strict=True)],
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that :meth:`measure` gives."""
        return "found", "of whole"

    @property
    def fitted(self) -> int:
        """How many of the first texts a transform may be fitted on in the end: the wholes."""
        return len(self.wholes)

    @property
    def documents(self) -> int:
        """How many of the first texts are documents: the wholes."""
        return len(self.wholes)

    @property
    def of_words(self) -> NDArray[np.float32]:
        """How long the words of each text are, in those of a document: they are all documents."""
        return np.ones(len(self.texts), np.float32)

    @property
    def texts(self) -> list[str]:
        """All texts to embed: wholes, first halves, second halves."""
        return self.wholes + self.firsts + self.seconds

    def measure(self, vectors: Vectors) -> tuple[float, float]:
        """Two numbers, each better if it is larger; the mean of their ranks decides between configurations.

        The first is the mean reciprocal rank at which a half finds its other half among all. The second is by how many
        standard deviations of all its similarities its whole text stands out. (The rank of the whole text would say
        nothing: among some dozens of texts nearly every half finds its own, whatever the configuration.)

        Args:
            vectors: ``[n, dim]`` of unit length, of :attr:`texts`.
        """
        count = len(self.wholes)
        whole, first, second = vectors[:count], vectors[count : 2 * count], vectors[2 * count :]
        similar = first @ second.T
        found = (_reciprocal_rank(similar) + _reciprocal_rank(similar.T)) / 2
        return found, (_stands_out(first @ whole.T) + _stands_out(second @ whole.T)) / 2


def beginning(text: str, words: int) -> str:
    """The first words of a text, with one space for each stretch of white space.

    In scripts without spaces a word is a character or a few (``data.words``).
    """
    text = " ".join(text.lstrip()[: _LONGEST * words].split())
    return text[: (ends_of_words(text, words) or [0])[-1]]


def usable(texts: Sequence[str], most: int, words: int = 64) -> list[str]:
    """Choose texts that have halves, in a random order that is always the same.

    Args:
        texts: the texts.
        most: how many to choose.
        words: texts are different if their first so many words are; no more of a text is read.

    Raises:
        InputError: too few of them are different and long enough.
    """
    different: dict[str, str] = {}
    for text in texts:
        different.setdefault(beginning(text, words), text)
    found = [text for start, text in different.items() if len(ends_of_words(start, words)) >= FEWEST_WORDS]
    if len(found) < FEWEST_TEXTS:
        raise InputError(
            f"of these {len(texts)} texts, {len(found)} differ in their first {words} words and have at least "
            f"{FEWEST_WORDS} (in scripts without spaces a word is a character, or up to four); at least {FEWEST_TEXTS} "
            "are needed, better 500. Give more texts like those that will be embedded (no labels are needed)"
        )
    return random.Random(0).sample(found, min(most, len(found)))  # noqa: S311 - no secret


def _reciprocal_rank(similar: NDArray[np.float32]) -> float:
    """Mean reciprocal rank of the diagonal within its row."""
    return float((1 / (1 + (similar > np.diag(similar)[:, None]).sum(axis=1))).mean())


def _stands_out(similar: NDArray[np.float32]) -> float:
    """How many standard deviations of its row the diagonal is above the row's mean."""
    return float(((np.diag(similar) - similar.mean(axis=1)) / (similar.std(axis=1) + 1e-9)).mean())
