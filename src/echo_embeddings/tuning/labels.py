"""What decides where the user has labels: the data's own metric, on one half of them. The other half judges the choice.

Knows vectors and data, no model and no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from echo_embeddings.types import Vectors

from .halves import beginning

__all__ = ["Labelled", "Labels"]

#: At most so many pairs, or documents and half as many queries, and of each text the first words: so a pass of the
#: model takes about a minute on two cores.
_MOST, _WORDS = 300, 128


class Labelled(Protocol):
    """Data with labels, as ``echo_embeddings.evaluation.open_dataset`` reads it."""

    @property
    def metric(self) -> str:
        """The name of the metric."""

    @property
    def size(self) -> str:
        """What it holds, in words."""

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The distinct texts to embed, as documents and as queries."""

    def score(self, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
        """100 times the metric, given the vectors of :attr:`texts`."""

    def parted(self, most: int) -> tuple[Labelled, Labelled]:
        """Two halves without a common pair or query, of at most ``most`` of them together."""


@dataclass(frozen=True)
class Labels:
    """Data with labels in two halves.

    Attributes:
        deciding: the half that decides.
        held_out: the half that judges what was chosen.
    """

    deciding: Labelled
    held_out: Labelled

    #: How many of the first texts a transform may be fitted on in the end.
    fitted = 0
    #: How much words may say beside the echo: around what was best elsewhere, up to nothing.
    shares = (0.5, 0.25, 1.0, 2.0, 0.0)

    @classmethod
    def of(cls, data: Labelled) -> Labels:
        """Part data at random, always in the same way.

        Raises:
            InputError: there is too little of it for two halves.
        """
        return cls(*data.parted(_MOST))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the number that :meth:`measure` gives."""
        return (self.deciding.metric,)

    @property
    def texts(self) -> list[str]:
        """All texts to embed: the documents and queries of the half that decides, then those of the other."""
        parts = [*self.deciding.texts, *self.held_out.texts]
        return [beginning(text, _WORDS) for part in parts for text in part]

    @property
    def documents(self) -> int:
        """How many of the first texts are documents: those of the half that decides."""
        return len(self.deciding.texts[0])

    @property
    def of_words(self) -> NDArray[np.float32]:
        """How long the words of each text are, in those of a document: 2 for queries."""
        parts = [*self.deciding.texts, *self.held_out.texts]
        return np.repeat(np.array([1, 2, 1, 2], np.float32), [len(part) for part in parts])

    def measure(self, vectors: Vectors) -> tuple[float, ...]:
        """The metric on the half that decides, as a part of 1, given the unit vectors of :attr:`texts`."""
        documents, queries = self.deciding.texts
        rows = vectors[: len(documents) + len(queries)]
        score = self.deciding.score(rows[: len(documents)], rows[len(documents) :])
        return (_defined(score) / 100,)

    def judged(self, vectors: Vectors) -> float:
        """100 times the metric on the half that was held out, given the unit vectors of :attr:`texts`."""
        documents, queries = self.held_out.texts
        rows = vectors[len(vectors) - len(documents) - len(queries) :]
        return _defined(self.held_out.score(rows[: len(documents)], rows[len(documents) :]))


def _defined(score: float) -> float:
    """0 for a correlation that is not defined, because all vectors are alike."""
    return 0.0 if np.isnan(score) else score
