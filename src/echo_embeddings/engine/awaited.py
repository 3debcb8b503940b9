"""Single texts that are awaited while the model is busy run together as one batch. Knows no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Generic, TypeVar

__all__ = ["Awaited"]

Vector = TypeVar("Vector")


@dataclass
class _Asked(Generic[Vector]):
    """One text that somebody waits for."""

    text: str
    embed: Callable[[list[str]], Iterable[Vector]]
    key: Hashable
    future: Future[Vector] = field(default_factory=Future)


class Awaited(Generic[Vector]):
    """Await it with one text; it never blocks the event loop, and serves any number of loops.

    The first text starts at once. What arrives while it runs makes the next batch: no timer, no waiting for more. It
    holds no encoder, so that an encoder can hold it without a cycle.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[_Asked[Vector]] = []
        self._running = False

    async def __call__(self, text: str, embed: Callable[[list[str]], Iterable[Vector]], key: Hashable = None) -> Vector:
        """The vector of one text.

        Args:
            text: what to embed.
            embed: texts to vectors; called in a thread, one batch at a time.
            key: texts with equal keys may share a batch, and the ``embed`` of one of them: role and instruction.

        Raises:
            Exception: what ``embed`` raises for this text.
        """
        asked: _Asked[Vector] = _Asked(text, embed, key)
        with self._lock:
            self._waiting.append(asked)
            start, self._running = not self._running, True
        if start:
            Thread(target=self._work, name="echo-embeddings-awaited").start()
        return await asyncio.wrap_future(asked.future)

    def _work(self) -> None:
        while batch := self._next():
            for key in dict.fromkeys(asked.key for asked in batch):
                self._run([asked for asked in batch if asked.key == key])

    def _next(self) -> list[_Asked[Vector]]:
        with self._lock:
            # Those who gave up waiting are left out.
            batch = [asked for asked in self._waiting if asked.future.set_running_or_notify_cancel()]
            self._waiting, self._running = [], bool(batch)
            return batch

    def _run(self, batch: list[_Asked[Vector]]) -> None:
        try:
            vectors = batch[0].embed([asked.text for asked in batch])
        except Exception as error:  # noqa: BLE001  (raised where the text is awaited)
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for asked in batch:  # only the text at fault shall fail
                self._run([asked])
        else:
            for asked, vector in zip(batch, vectors, strict=True):
                asked.future.set_result(vector)
