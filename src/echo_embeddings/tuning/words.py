"""How long the words beside a vector should be: by how far the cosines of both lie apart. Knows vectors, no texts."""

from __future__ import annotations

import numpy as np

from echo_embeddings.types import Vectors

__all__ = ["length_of_words", "spread_of"]

#: The most that the lexical part of a document is given beside an echo of length 1; a query has twice as much.
_LONGEST = 2.0


def spread_of(vectors: Vectors) -> float:
    """The standard deviation of the cosines between all pairs of different texts, given unit vectors ``[n, dim]``.

    It is 0 for fewer than two texts.
    """
    if len(vectors) < 2:
        return 0.0
    similar = vectors @ vectors.T
    return float(similar[np.triu_indices(len(similar), 1)].std())


def length_of_words(share: float, of_echo: float, of_words: float) -> float:
    """How long words must be so that their cosines vary ``share`` times as much as those of the echo.

    Two documents' cosine is that of their echoes plus the square of this length times that of their words. How far
    cosines lie apart differs by model and transform, and the best length with it; the best share hardly differs
    (docs/guides/tune.md).

    Args:
        share: from 0; the more, the longer.
        of_echo: the spread of the cosines of the echoes of some texts.
        of_words: that of their words; where it is 0, no text shares words with another, and words say nothing.
    """
    length = float(np.sqrt(share * of_echo / of_words)) if of_words > 0 else 0.0
    return min(round(length, 2), _LONGEST)
