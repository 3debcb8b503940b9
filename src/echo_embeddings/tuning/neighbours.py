"""Which texts are nearest to some texts, before and after, for people to look at. Knows vectors and texts, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_embeddings.types import Vectors

__all__ = ["Neighbours", "neighbours"]

# How many texts are shown, and how many neighbours of each.
_SHOWN, _NEAREST = 8, 3


@dataclass(frozen=True)
class Neighbours:
    """One text, and those nearest to it.

    Attributes:
        text: the text.
        before: the nearest texts with the rule for any model, and their cosines, the nearest first.
        after: the same with what was chosen.
    """

    text: str
    before: list[tuple[str, float]]
    after: list[tuple[str, float]]


def neighbours(texts: Sequence[str], before: Vectors, after: Vectors) -> list[Neighbours]:
    """Find the neighbours of some texts; those whose neighbours changed come first.

    Args:
        texts: some hundred.
        before: ``[n, dim]`` of unit length, of ``texts``.
        after: ``[n, other dim]`` of unit length, of ``texts``.
    """
    old, new = _nearest(texts, before), _nearest(texts, after)
    common = [len({text for text, _ in a} & {text for text, _ in b}) for a, b in zip(old, new, strict=True)]
    rows = sorted(range(len(texts)), key=lambda row: common[row])[:_SHOWN]
    return [Neighbours(texts[row], old[row], new[row]) for row in rows]


def _nearest(texts: Sequence[str], vectors: Vectors) -> list[list[tuple[str, float]]]:
    """The nearest texts of each text, without itself, and their cosines."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    order = np.argsort(-similar, axis=1, kind="stable")[:, :_NEAREST]
    return [[(texts[other], float(row[other])) for other in near] for row, near in zip(similar, order, strict=True)]
