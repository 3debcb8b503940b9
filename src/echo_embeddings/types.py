"""What a vector is, and the shape of anything that makes them. Imports nothing of ours.

An ``Embedder`` is a structural type: a class with these methods will do, so adapters can be tested without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Embedder", "Role", "TokenEmbeddings", "Vectors"]

#: float32, ``[n, dim]`` for several texts or ``[dim]`` for one.
Vectors = NDArray[np.float32]

#: What a text is: searched in, or searched for.
Role = Literal["document", "query"]


@dataclass(frozen=True)
class TokenEmbeddings:
    """One vector for each token of a text, each of which has seen the whole text.

    Attributes:
        tokens: ``n`` vocabulary entries.
        offsets: int64 ``[n, 2]``, where each token stands in the text, in characters.
        vectors: float32 ``[n, dim]``, unit length, transforms applied.
    """

    tokens: list[str]
    offsets: NDArray[np.int64]
    vectors: Vectors


class Embedder(Protocol):
    """Texts in, float32 unit vectors out, with the two roles kept apart. ``EchoEncoder`` is one."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def encode_documents(self, texts: str | Sequence[str]) -> Vectors:
        """``[n, dim]`` for a list, ``[dim]`` for one text."""

    def encode_queries(self, texts: str | Sequence[str], *, instruction: str | None = None) -> Vectors:
        """The same with the query template."""
