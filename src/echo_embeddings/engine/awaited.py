"""Run texts that arrive while the model is busy in common batches, of which every caller has a part. No framework."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from echo_embeddings.errors import WorkerError
from echo_embeddings.forking import ForkLock, in_forks

__all__ = ["Awaited"]

Vector = TypeVar("Vector")

# Seconds that a batch of a busy queue shall take, about: a text that arrives then waits no longer for its turn. Much
# shorter batches would be slower by their fixed cost, which ``batch_size.overhead_of`` gives in tokens.
_SECONDS = 0.5
# Where the size of such batches starts, and its least, in the unit of ``sizes``.
_START, _LEAST = 4096, 256


@dataclass(eq=False)
class _Asked(Generic[Vector]):
    """Texts that somebody waits for, in an event loop."""

    texts: Sequence[str]
    sizes: Sequence[int]
    embed: Callable[[list[str]], Iterable[Vector]]
    key: Hashable
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Vector]]
    found: list[Vector] = field(default_factory=list)
    taken: int = 0  # so many texts have been in a batch, or are in the one that runs
    failed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether there is no more to do: it failed, or who waited was cancelled."""
        return self.failed or self.future.done()

    @property
    def part(self) -> Sequence[str]:
        """The texts that are in the batch that runs."""
        return self.texts[len(self.found) : self.taken]

    def take(self) -> int:
        """Put the next text into the batch; its size."""
        self.taken += 1
        return self.sizes[self.taken - 1]

    def answer(self, vectors: list[Vector]) -> None:
        self.found += vectors
        if len(self.found) == len(self.texts):
            self._tell(lambda: None if self.future.done() else self.future.set_result(self.found))

    def fail(self, error: BaseException) -> None:
        self.failed = True
        if isinstance(error, StopIteration):  # a future does not take it, because it would end a generator
            error = _because_of(error)
        self._tell(lambda: None if self.future.done() else self.future.set_exception(error))

    def _tell(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the event loop is closed, so nobody waits
            self.loop.call_soon_threadsafe(act)


class Awaited(Generic[Vector]):
    """A queue to await vectors from. It never blocks an event loop, and serves any number of them.

    The first texts start at once. Texts that arrive while they run make the next batch: there is no timer, and nothing
    waits for more texts. If more texts wait than a batch of about half a second holds, every call has its turn, one
    text at a time. So a single text does not wait until a list of thousands is done, and no list waits for ever.

    The queue holds no encoder, so an encoder can hold a queue without a reference cycle. Whatever ends a batch, those
    who wait for its texts get it, and later texts start anew.

    One thread embeds, and is kept as long as the queue. OpenMP starts threads of its own for each thread that computes:
    with a new one for each lone query, queries took 10 to 20 ms longer on a busy machine of two cores (2026-11-28).
    """

    def __init__(self) -> None:
        self._lock = ForkLock("was taking texts that are awaited")
        self._waiting: deque[_Asked[Vector]] = deque()
        self._batch: list[_Asked[Vector]] = []  # what the thread works on
        self._most, self._is_full = _START, False  # the size of a batch, and whether the one that runs has it
        self._work_begun: object | None = None  # stands for the work that goes on; None if there is none
        self._thread: ThreadPoolExecutor | None = None
        in_forks(self)

    async def __call__(self, text: str, embed: Callable[[list[str]], Iterable[Vector]], key: Hashable = None) -> Vector:
        """Embed one text; arguments and errors as for :meth:`several`."""
        return (await self.several([text], embed, key))[0]

    async def several(
        self,
        texts: Sequence[str],
        embed: Callable[[list[str]], Iterable[Vector]],
        key: Hashable = None,
        sizes: Sequence[int] | None = None,
    ) -> list[Vector]:
        """Embed some texts, in one batch or in several.

        If the caller is cancelled, texts that are in no batch yet are left out.

        Args:
            texts: the texts to embed.
            embed: turns texts into vectors; it is called in a thread, one batch at a time.
            key: texts with equal keys may share a batch, which calls the ``embed`` of one of them. An example is
                ``("queries", instruction)``.
            sizes: the work that each text is, such as its tokens; ``None`` for 1 each.

        Raises:
            BaseException: whatever ``embed`` raises for these texts.
            ValueError: ``embed`` gives another number of vectors than texts.
            RuntimeError: no thread can be started.
            WorkerError: the process was forked while the texts were embedded; in the new process.
        """
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Vector]] = loop.create_future()
        asked = _Asked(texts, [1] * len(texts) if sizes is None else sizes, embed, key, loop, future)
        with self._lock:
            self._waiting.append(asked)
            begun = object() if self._work_begun is None else None
            self._work_begun = begun or self._work_begun
        if begun is not None:
            self._begin(begun)
        try:
            return await future
        finally:
            del asked, future  # an error holds this frame by its traceback, and must not hold itself

    def _begin(self, begun: object) -> None:
        """Let the thread work until no text waits."""
        try:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="echo-embeddings-awaited")
            self._thread.submit(self._work, begun)
        except BaseException as error:  # noqa: BLE001  (raised where the texts are awaited, by whomever)
            if (thread := self._thread) is not None:
                self._thread = None
                thread.shutdown(wait=False)  # it may run, if what was interrupted is its start
            self._end(begun, error)

    def _work(self, begun: object) -> None:
        try:
            while batch := self._next(begun):
                started = time.perf_counter()
                for key in dict.fromkeys(asked.key for asked in batch):
                    _run([asked for asked in batch if asked.key == key])
                if self._is_full:
                    self._adapt(time.perf_counter() - started)
        except BaseException as error:  # noqa: BLE001  (raised where the texts are awaited)
            self._end(begun, error)

    def _next(self, begun: object) -> list[_Asked[Vector]]:
        """Take texts that wait as the next batch. If there are none, the work is over."""
        with self._lock:
            if self._work_begun is not begun:
                return []  # it was given up
            batch, room = dict[_Asked[Vector], None](), self._most
            while self._waiting and room > 0:
                asked = self._waiting.popleft()
                if asked.is_over:
                    continue
                room -= asked.take()
                batch[asked] = None
                if asked.taken < len(asked.texts):
                    self._waiting.append(asked)
            self._batch, self._is_full = list(batch), room <= 0
            if not self._batch:
                self._work_begun = None
            return self._batch

    def _adapt(self, seconds: float) -> None:
        """Find the size of a batch that takes about ``_SECONDS``, from the time of a full one."""
        if seconds < _SECONDS / 2:
            self._most *= 2
        elif seconds > _SECONDS * 2:
            self._most = max(self._most // 2, _LEAST)

    def _end(self, begun: object, error: BaseException) -> None:
        """Fail every text that waits for some work, and let the next text begin anew."""
        with self._lock:
            if self._work_begun is not begun:
                return
            left = dict.fromkeys([*self._batch, *self._waiting])
            self._waiting, self._batch, self._work_begun = deque(), [], None
        for asked in left:
            asked.fail(error)

    def give_up(self) -> None:
        """Forget, in a forked process, the thread of its parent."""
        message = (
            "this process was forked while another thread embedded the text, and that thread does not exist here; "
            "embed it again"
        )
        self._thread = None
        self._end(self._work_begun, WorkerError(message))


def _run(batch: list[_Asked[Vector]]) -> None:
    """Embed texts of one key, and answer each call. If that fails, run them call by call: so only that at fault fails.

    Calls leave the list when they are answered. Otherwise an error would hold its own future, by its traceback.
    """
    try:
        vectors = iter(_vectors(batch))
    except BaseException as error:  # noqa: BLE001  (raised where the texts are awaited)
        if len(batch) > 1 and not isinstance(error, SystemExit | KeyboardInterrupt):
            while batch:
                _run([batch.pop(0)])
        while batch:
            batch.pop().fail(error)
    else:
        for asked in batch:
            asked.answer(list(islice(vectors, len(asked.part))))


def _vectors(batch: list[_Asked[Vector]]) -> list[Vector]:
    texts = [text for asked in batch for text in asked.part]
    vectors = list(batch[0].embed(texts))
    if len(vectors) != len(texts):
        raise ValueError(f"the embedder gave {len(vectors)} vectors for {len(texts)} texts")
    return vectors


def _because_of(error: StopIteration) -> RuntimeError:
    found = RuntimeError("embedding raised StopIteration")
    found.__cause__ = error
    return found
