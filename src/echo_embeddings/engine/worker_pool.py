"""Several devices: a worker process for each, and texts in pieces that free workers take in turn.

All of a chunk's texts are tokenised first, by all workers; so what is too long is said before a model runs, and the
pieces can be made by the tokens that they really have.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import warn
from echo_embeddings.model.device import is_cpu
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.inputs import CHUNK
from echo_embeddings.text.truncation import TruncationCount
from echo_embeddings.types import Role, Vectors

from .worker import Call, Setup, Tokenised, Worker

if TYPE_CHECKING:
    from .readout import Readout

__all__ = ["WorkerPool"]

_Task = tuple[str, tuple[Any, ...]]
_Tasks = SimpleQueue["tuple[Call, int, _Task] | None"]

# Texts that are not worth being tokenised by two.
_FEW = 64


class WorkerPool:
    """The engine for several devices: each has a worker process, and free workers take the texts in turn.

    Workers start when there are texts, serve any number of calls and threads, and end with the last pool that uses
    them. No weights are loaded in this process. A pool can be pickled and copied; the copy starts workers of its own.

    Args:
        spec: the model.
        config: what to run.
        options: how each worker runs the model; there is one worker for each of its ``devices``.
        workers: those of a pool for the same layers and weights, to share them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        config: EchoConfig,
        options: EncoderOptions,
        workers: _Workers | None = None,
    ) -> None:
        self.config = config
        self._spec, self._options, self._devices = spec, options, tuple(options.devices or ())
        self._workers = workers or _Workers(spec, self._devices, options)
        self._said: set[str] = set()
        self._dimension: int | None = None

    def __reduce__(self) -> tuple[type[WorkerPool], tuple[Any, ...]]:
        return WorkerPool, (self._spec, self.config, self._options)

    @property
    def dimension(self) -> int:
        """Length of a vector; a worker is asked for it."""
        if self._dimension is None:
            self._dimension = int(self._ask("dimension"))
        return self._dimension

    def limit(self, role: Role, instruction: str | None = None) -> int:
        """The most content tokens of a text of this role that are embedded."""
        return int(self._ask("limit", role, instruction))

    def tokenize(self, texts: Sequence[str], role: Role) -> list[int]:
        """How many content tokens each text has, before any is truncated."""
        counts: list[int] = self._ask("tokenize", list(texts), role)
        return counts

    def unembedding(self) -> Vectors:
        """The unembedding matrix ``[vocabulary, hidden]``, float32."""
        matrix: Vectors = self._ask("unembedding")
        return matrix

    def with_config(self, config: EchoConfig) -> WorkerPool | None:
        """A pool with the same workers, if both configs run the same layers of the same weights; else ``None``."""
        names = ("start_layer", "exit_layer", "final_norm", "packaged_adapter")
        if any(getattr(self.config, name) != getattr(config, name) for name in names):
            return None
        return WorkerPool(self._spec, config, self._options, self._workers)

    def describe(self) -> dict[str, str]:
        """How the first free worker runs the model, a line a fact."""
        facts: dict[str, str] = self._ask("describe")
        return facts | {"devices": ", ".join(self._devices)}

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        instruction: str | None,
        truncation: TruncationCount,
        advance: Callable[[int], object] = lambda _: None,
        readout: Readout = "text",
    ) -> Any:
        """Vectors of distinct texts; see ``Engine.embed``. ``advance`` is called in the caller's thread.

        Raises:
            WorkerError: a worker process ended before its work was done.
            Exception: what a worker raised, by its class and message.
        """
        import torch

        from . import batch_size

        found: Any = [None] * len(texts)
        size = CHUNK * len(self._devices)
        # Pieces smaller than a batch would only make work.
        least = min(batch_size.default_budget(torch.device(device)) for device in self._devices)
        for start in range(0, max(len(texts), 1), size):  # no texts have a dimension too
            part = texts[start : start + size]
            tokenised = self._tokenise(part, role, instruction)
            truncation.add(part, tokenised.contents, tokenised.limit)
            if start == 0 and readout == "text":
                found = np.empty((len(texts), tokenised.dimension), dtype=np.float32)
            costs = [tokenised.layout.total(len(content.ids)) for content in tokenised.contents]
            pieces = _pieces(costs, len(self._devices), least=least)
            tasks = [_read_out(readout, part, tokenised, piece, role) for piece in pieces]
            with closing(self._workers.run(self.config, tasks, advance)) as done:
                for number, some in done:
                    places = [start + i for i in pieces[number]]
                    if readout == "text":
                        found[places] = some
                        continue
                    for place, one in zip(places, some, strict=True):
                        found[place] = one
        return found

    def close(self) -> None:
        """End the workers, once calls under way in other threads are done; a later call starts new ones."""
        self._workers.close()

    def _ask(self, name: str, *arguments: Any) -> Any:
        """What a worker's runtime says."""
        return dict(self._workers.run(self.config, [("ask", (name, *arguments))], lambda _: None))[0]

    def _tokenise(self, texts: Sequence[str], role: Role, instruction: str | None) -> Tokenised:
        """Have texts tokenised, and warn of what the workers warned of."""
        size = max(_FEW, -(-len(texts) // len(self._devices)))
        tasks = [
            ("tokenise", (list(texts[i : i + size]), role, instruction)) for i in range(0, max(len(texts), 1), size)
        ]
        found = dict(self._workers.run(self.config, tasks, lambda _: None))
        parts: list[Tokenised] = [found[number] for number in range(len(tasks))]
        for message in (message for part in parts for message in part.warnings):
            if str(message) not in self._said:  # each worker says it
                self._said.add(str(message))
                warn(message if isinstance(message, Warning) else UserWarning(message))
        first = parts[0]
        contents = [content for part in parts for content in part.contents]
        return Tokenised(contents, first.layout, first.limit, first.dimension, [])


class _Workers:
    """The worker processes, one a device, and the threads of this process that attend them."""

    def __init__(self, spec: ModelSpec, devices: tuple[str, ...], options: EncoderOptions) -> None:
        self._spec, self._devices, self._options = spec, devices, options
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()

    def close(self) -> None:
        """End the workers, once calls under way in other threads are done; a later call starts new ones."""
        with self._lock:
            threads, self._threads, self._workers = self._threads, [], []
            if threads:
                self._dismiss()
        for thread in threads:
            thread.join()

    def run(
        self, config: EchoConfig, tasks: Sequence[_Task], advance: Callable[[int], object]
    ) -> Generator[tuple[int, Any], None, None]:
        """Have tasks done by whoever is free; their numbers and results, as they are done."""
        call = Call(config)
        with self._lock:
            self._start(config)
            for number, task in enumerate(tasks):
                self._tasks.put((call, number, task))
        try:
            left = len(tasks)
            while left:
                kind, number, value = call.events.get()
                if kind == "failed":
                    raise value
                if kind == "batch":
                    advance(value)
                else:
                    left -= 1
                    yield number, value
        finally:
            call.over = True  # after an error or Ctrl-C, what is left would be done for nobody

    def _start(self, config: EchoConfig) -> None:
        """Start what is not running: all workers, or those that have died."""
        if self._pid != os.getpid():  # a fork has neither the threads nor the right to those processes
            self._workers, self._threads, self._pid = [], [], os.getpid()
        if self._workers:
            for i, worker in enumerate(self._workers):
                if not worker.alive():
                    self._workers[i] = self._worker(i, config)
            return
        self._spec.location()  # the built-in model is fetched once, not by every worker
        self._workers = workers = [self._worker(i, config) for i in range(len(self._devices))]
        self._tasks: _Tasks = SimpleQueue()
        # Threads know the tasks and the workers, not this object: so it can be forgotten, and that ends them.
        self._threads = [
            threading.Thread(target=_attend, args=(self._tasks, workers, i), name=f"echo-embeddings-{i}", daemon=True)
            for i in range(len(workers))
        ]
        for thread in self._threads:
            thread.start()
        self._dismiss = weakref.finalize(self, _dismiss, self._tasks, len(workers))
        self._dismiss.atexit = False  # there multiprocessing ends its daemons

    def _worker(self, i: int, config: EchoConfig) -> Worker:
        import torch

        device, cpus = self._devices[i], sum(map(is_cpu, self._devices))
        threads = max(1, torch.get_num_threads() // cpus) if is_cpu(device) else None
        spec = replace(self._spec, device=device)
        return Worker(Setup(spec, config, self._options, threads, shows_bars=i == 0))


def _read_out(readout: Readout, texts: Sequence[str], tokenised: Tokenised, piece: list[int], role: Role) -> _Task:
    """The task of a piece of these texts."""
    contents = [tokenised.contents[i] for i in piece]
    return "read_out", (readout, [texts[i] for i in piece], contents, tokenised.layout, role)


def _pieces(costs: Sequence[int], workers: int, *, least: int) -> list[list[int]]:
    """Cut texts of like length into pieces, longest first: large while much is left, small when the end is near.

    So batches are full, and no worker waits long for the last one.

    Args:
        costs: tokens of each sequence.
        workers: how many will share them.
        least: tokens a piece, but for the last.

    Returns:
        Lists of indices into ``costs``; each index occurs once.
    """
    order = np.argsort(-np.asarray(costs), kind="stable").tolist()
    pieces, start, left = [], 0, sum(costs)
    while start < len(order):
        size = max(least, left // (2 * workers))
        # Counted by the longest, as a batch is: a piece of one batch's size does not spill over into a second.
        piece = order[start : start + max(1, size // costs[order[start]])]
        pieces.append(piece)
        start, left = start + len(piece), left - sum(costs[i] for i in piece)
    return pieces


def _attend(tasks: _Tasks, workers: list[Worker], i: int) -> None:
    """The life of a worker's thread."""
    while _one_more(tasks, workers, i):
        pass
    workers[i].stop()


def _one_more(tasks: _Tasks, workers: list[Worker], i: int) -> bool:
    """A function of its own, so that a waiting thread holds nothing of the last call."""
    if (taken := tasks.get()) is None:
        return False
    call, number, (method, arguments) = taken
    if not call.over:
        try:
            call.events.put(("done", number, workers[i].do(call, number, method, arguments)))
        except Exception as error:  # noqa: BLE001  (raised in the caller's thread)
            call.events.put(("failed", number, error))
    return True


def _dismiss(tasks: _Tasks, workers: int) -> None:
    for _ in range(workers):
        tasks.put(None)
