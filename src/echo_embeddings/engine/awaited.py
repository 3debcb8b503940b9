"""Run single texts that arrive while the model is busy together, as one batch. Knows no framework."""

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
    """A queue to await vectors from, one text at a time. It never blocks an event loop, and serves any number of them.

    The first text starts at once. Texts that arrive while it runs make the next batch: there is no timer, and nothing
    waits for more texts. The queue holds no encoder, so an encoder can hold a queue without a reference cycle.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[_Asked[Vector]] = []
        self._running = False

    async def __call__(self, text: str, embed: Callable[[list[str]], Iterable[Vector]], key: Hashable = None) -> Vector:
        """Embed one text.

        Args:
            text: the text to embed.
            embed: turns texts into vectors; it is called in a thread, one batch at a time.
            key: texts with equal keys may share a batch, which calls the ``embed`` of one of them. An example is
                ``("queries", instruction)``.

        Raises:
            Exception: whatever ``embed`` raises for this text.
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
            # Texts whose caller was cancelled are left out.
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
            for asked in batch:  # one by one, so that only the text at fault fails
                self._run([asked])
        else:
            for asked, vector in zip(batch, vectors, strict=True):
                asked.future.set_result(vector)
