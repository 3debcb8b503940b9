"""What an adapter needs of an embedder: anything of this shape will do, so adapters can be tested without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Texts in, float32 unit vectors out, with the two roles kept apart. ``EchoEncoder`` is one."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def encode_documents(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """``[n, dim]`` for a list, ``[dim]`` for one text."""

    def encode_queries(self, texts: str | Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """The same with the query template."""
