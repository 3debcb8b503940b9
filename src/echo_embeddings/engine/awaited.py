"""Run single texts that arrive while the model is busy together, as one batch. Knows no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread, current_thread
from typing import Generic, TypeVar

from echo_embeddings.errors import WorkerError
from echo_embeddings.forking import ForkLock, in_forks

__all__ = ["Awaited"]

Vector = TypeVar("Vector")


@dataclass(eq=False)
class _Asked(Generic[Vector]):
    """One text that somebody waits for, in an event loop."""

    text: str
    embed: Callable[[list[str]], Iterable[Vector]]
    key: Hashable
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Vector]

    def answer(self, vector: Vector) -> None:
        self._tell(lambda: None if self.future.done() else self.future.set_result(vector))

    def fail(self, error: BaseException) -> None:
        if isinstance(error, StopIteration):  # a future does not take it, because it would end a generator
            error = _because_of(error)
        self._tell(lambda: None if self.future.done() else self.future.set_exception(error))

    def _tell(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the event loop is closed, so nobody waits
            self.loop.call_soon_threadsafe(act)


class Awaited(Generic[Vector]):
    """A queue to await vectors from, one text at a time. It never blocks an event loop, and serves any number of them.

    The first text starts at once. Texts that arrive while it runs make the next batch: there is no timer, and nothing
    waits for more texts. The queue holds no encoder, so an encoder can hold a queue without a reference cycle.

    Whatever ends a batch, those who wait for its texts get it, and later texts start anew.
    """

    def __init__(self) -> None:
        self._lock = ForkLock("was taking texts that are awaited")
        self._waiting: list[_Asked[Vector]] = []
        self._batch: list[_Asked[Vector]] = []  # what the thread works on
        self._thread: Thread | None = None
        in_forks(self)

    async def __call__(self, text: str, embed: Callable[[list[str]], Iterable[Vector]], key: Hashable = None) -> Vector:
        """Embed one text.

        Args:
            text: the text to embed.
            embed: turns texts into vectors; it is called in a thread, one batch at a time.
            key: texts with equal keys may share a batch, which calls the ``embed`` of one of them. An example is
                ``("queries", instruction)``.

        Raises:
            BaseException: whatever ``embed`` raises for this text.
            ValueError: ``embed`` gives another number of vectors than texts.
            RuntimeError: no thread can be started.
            WorkerError: the process was forked while the text was embedded; in the new process.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Vector] = loop.create_future()
        asked = _Asked(text, embed, key, loop, future)
        with self._lock:
            self._waiting.append(asked)
            thread = Thread(target=self._work, name="echo-embeddings-awaited") if self._thread is None else None
            self._thread = thread or self._thread
        if thread is not None:
            try:
                thread.start()
            except BaseException as error:  # noqa: BLE001  (raised below; other texts may wait for this thread too)
                self._end(thread, error)
        try:
            return await future
        finally:
            del asked, future  # an error holds this frame by its traceback, and must not hold itself

    def _work(self) -> None:
        thread = current_thread()
        try:
            while batch := self._next(thread):
                for key in dict.fromkeys(asked.key for asked in batch):
                    _run([asked for asked in batch if asked.key == key])
        except BaseException as error:  # noqa: BLE001  (raised where the texts are awaited)
            self._end(thread, error)

    def _next(self, thread: object) -> list[_Asked[Vector]]:
        """Take the texts that wait as the next batch of a thread. If there are none, the thread is to end."""
        with self._lock:
            if self._thread is not thread:
                return []  # it was given up
            # Texts whose caller was cancelled are left out.
            self._batch = [asked for asked in self._waiting if not asked.future.done()]
            self._waiting = []
            if not self._batch:
                self._thread = None
            return self._batch

    def _end(self, thread: object, error: BaseException) -> None:
        """Fail every text that waits for a thread, and let the next text start another thread."""
        with self._lock:
            if self._thread is not thread:
                return
            left, self._waiting, self._batch, self._thread = self._batch + self._waiting, [], [], None
        for asked in left:
            asked.fail(error)

    def give_up(self) -> None:
        """Forget, in a forked process, the thread of its parent."""
        message = (
            "this process was forked while another thread embedded the text, and that thread does not exist here; "
            "embed it again"
        )
        self._end(self._thread, WorkerError(message))


def _run(batch: list[_Asked[Vector]]) -> None:
    """Embed texts of one key, and answer each. If that fails, run them one by one: so only the text at fault fails.

    Texts leave the list when they are answered. Otherwise an error would hold its own future, by its traceback.
    """
    try:
        vectors = _vectors(batch)
    except BaseException as error:  # noqa: BLE001  (raised where the texts are awaited)
        if len(batch) > 1 and not isinstance(error, SystemExit | KeyboardInterrupt):
            while batch:
                _run([batch.pop(0)])
        while batch:
            batch.pop().fail(error)
    else:
        for asked, vector in zip(batch, vectors, strict=True):
            asked.answer(vector)


def _vectors(batch: list[_Asked[Vector]]) -> list[Vector]:
    vectors = list(batch[0].embed([asked.text for asked in batch]))
    if len(vectors) != len(batch):
        raise ValueError(f"the embedder gave {len(vectors)} vectors for {len(batch)} texts")
    return vectors


def _because_of(error: StopIteration) -> RuntimeError:
    found = RuntimeError("embedding raised StopIteration")
    found.__cause__ = error
    return found
