"""The types of vectors and roles, and the methods of every object that embeds texts. Imports nothing of ours.

``Embedder`` is a structural type: any class with its methods is one, so frameworks can be tested without a model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DTYPES",
    "Embedder",
    "Precision",
    "Role",
    "TokenEmbeddings",
    "Vectors",
    "require_chunking",
    "require_encoder",
    "require_whole",
    "width",
]

#: float32, ``[n, dim]`` for several texts or ``[dim]`` for one.
Vectors = NDArray[np.float32]

#: A document is what is searched, a query is what is searched for.
Role = Literal["document", "query"]

#: How many bytes a number of a vector has; ``"ubinary"`` has a bit a dimension (``vectors/precision.py``).
Precision = Literal["float32", "float16", "int8", "ubinary"]

#: The dtype of vectors of each precision.
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.int8),
    "ubinary": np.dtype(np.uint8),
}


def width(dimension: int, precision: str) -> int:
    """How many numbers a vector of ``dimension`` dimensions is: one a dimension, ``"ubinary"`` one for eight."""
    return -(-dimension // 8) if precision == "ubinary" else dimension


def require_encoder(encoder: object) -> None:
    """Refuse what is no encoder, such as the name of a model.

    Raises:
        TypeError: it is none; the message says what to pass instead.
    """
    if isinstance(encoder, type) or not hasattr(encoder, "encode_documents"):
        named = f"EchoEncoder({encoder!r:.60})" if isinstance(encoder, str | os.PathLike) else "EchoEncoder()"
        raise TypeError(f"encoder must be an EchoEncoder, not {encoder!r:.60}; make one: {named}")


def require_chunking(encoder: Any) -> None:
    """Refuse an encoder that makes no vectors of chunks, before anything is read or loaded.

    Args:
        encoder: an ``EchoEncoder``, or what has its ``encode_chunks`` and ``config``.

    Raises:
        TypeError: it has no ``encode_chunks``.
        ConfigError: it cannot with its config (``EchoConfig.require_chunking``). A config for which a hub would have to
            be asked is looked at later, when it is known.
    """
    if not callable(getattr(encoder, "encode_chunks", None)):
        raise TypeError(
            f"encoder is a {type(encoder).__name__}, which has no encode_chunks; late chunking needs an EchoEncoder"
        )
    config = encoder.known_config if hasattr(encoder, "known_config") else encoder.config
    if config is not None:
        config.require_chunking()


def require_whole(name: str, value: object, error: type[Exception], *, at_least: int = 1) -> None:
    """Check that a value is a whole number, and not too small.

    Args:
        name: what it is called in the message.
        value: anything.
        error: what to raise, such as ``ConfigError``.
        at_least: the smallest number that can be.

    Raises:
        Exception: ``error``, if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise error(f"{name}={value!r}: give a whole number of at least {at_least}")


@dataclass(frozen=True)
class TokenEmbeddings:
    """One vector for each token of a text. Each of them has seen the whole text.

    Attributes:
        tokens: ``n`` tokens, as the vocabulary spells them.
        offsets: int64 ``[n, 2]``, start and end (exclusive) of each token in the text, in characters.
        vectors: float32 ``[n, dim]``, unit length, transforms applied.
    """

    tokens: list[str]
    offsets: NDArray[np.int64]
    vectors: Vectors


class Embedder(Protocol):
    """An object that embeds documents and queries as float32 unit vectors, such as ``EchoEncoder``."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def encode_documents(self, texts: str | Sequence[str]) -> Vectors:
        """Embed documents: ``[n, dim]`` for a list, ``[dim]`` for one text."""

    def encode_queries(self, texts: str | Sequence[str], *, instruction: str | None = None) -> Vectors:
        """Embed queries, with the same shapes; ``instruction`` is the task, where the model takes one."""
