"""Embedding from an event loop: it is never blocked, and single texts asked for at the same time share a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from echo_embeddings.types import Vectors

from .awaited import Batcher

__all__ = ["AsyncMethods"]


class AsyncMethods:
    """The awaitable twins of ``encode_documents`` and ``encode_queries``.

    One text starts at once if the model is idle; texts that come while it is busy make the next batch. So a server
    under load gets batches, and a lone query waits for nothing. A list runs as a call of its own, in a thread.
    """

    encode_documents: Callable[..., Vectors]
    encode_queries: Callable[..., Vectors]
    _batchers: dict[Any, Batcher[Vectors]]

    async def aencode_documents(self, texts: str | Sequence[str]) -> Vectors:
        """``encode_documents``, awaited: the same texts, vectors and errors."""
        return await self._awaited(texts, "documents", self.encode_documents)

    async def aencode_queries(self, texts: str | Sequence[str], *, instruction: str | None = None) -> Vectors:
        """``encode_queries``, awaited: the same texts, vectors and errors."""
        encode = partial(self.encode_queries, instruction=instruction)
        return await self._awaited(texts, ("queries", instruction), encode)

    async def _awaited(self, texts: str | Sequence[str], key: Any, encode: Callable[[Any], Vectors]) -> Vectors:
        if not isinstance(texts, str):
            return await asyncio.to_thread(encode, texts)
        return await self._batchers.setdefault(key, Batcher(encode))(texts)
