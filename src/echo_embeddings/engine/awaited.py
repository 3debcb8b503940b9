"""Single texts asked for while the model is busy run together as one batch. Knows no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Generic, TypeVar

__all__ = ["Batcher"]

Vector = TypeVar("Vector")


class Batcher(Generic[Vector]):
    """Awaited with one text; never blocks the event loop, and serves any number of loops.

    The first text starts at once. What arrives while it runs makes the next batch: no timer, no waiting for more.

    Args:
        encode: texts to vectors; called in a thread, one batch at a time.
    """

    def __init__(self, encode: Callable[[list[str]], Iterable[Vector]]) -> None:
        self._encode = encode
        self._lock = Lock()
        self._waiting: list[tuple[str, Future[Vector]]] = []
        self._running = False

    async def __call__(self, text: str) -> Vector:
        """Its vector; raises what ``encode`` raises for this text."""
        future: Future[Vector] = Future()
        with self._lock:
            self._waiting.append((text, future))
            start, self._running = not self._running, True
        if start:
            Thread(target=self._work, name="echo-embeddings-batcher").start()
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while batch := self._next():
            self._run(batch)

    def _next(self) -> list[tuple[str, Future[Vector]]]:
        with self._lock:
            # Whoever gave up waiting is left out.
            batch = [asked for asked in self._waiting if asked[1].set_running_or_notify_cancel()]
            self._waiting, self._running = [], bool(batch)
            return batch

    def _run(self, batch: list[tuple[str, Future[Vector]]]) -> None:
        try:
            vectors = self._encode([text for text, _ in batch])
        except Exception as error:  # noqa: BLE001  (raised where the text is awaited)
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for asked in batch:  # only the text at fault shall fail
                self._run([asked])
        else:
            for (_, future), vector in zip(batch, vectors, strict=True):
                future.set_result(vector)
