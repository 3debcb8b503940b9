"""Several devices: a worker process for each, and texts in pieces that free workers take in turn.

A crew does what a runtime does, for many texts: distinct texts in, pooled vectors out. It knows no roles, no weights
and no unit length. All of a window's texts are tokenised first, by all workers; so what is too long is said before a
model runs, and the pieces can be cut by the tokens that they really have.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import warn
from echo_embeddings.model.device import checked_devices, is_cpu
from echo_embeddings.model.spec import Source
from echo_embeddings.text.inputs import WINDOW
from echo_embeddings.text.template import Template
from echo_embeddings.text.truncation import Cuts
from echo_embeddings.types import Role, Vectors

from .worker import Call, Reading, Worker

__all__ = ["Crew", "crewed"]

_Task = tuple[str, tuple[Any, ...]]
_Tasks = SimpleQueue["tuple[Call, int, _Task] | None"]

# Texts that are not worth being tokenised by two.
_FEW = 64


class Crew:
    """Workers that start when there are texts, serve any number of calls and threads, and end with this object.

    It can be pickled and copied; the copy starts workers of its own.

    Args:
        source: the model.
        devices: one worker each; names that are checked.
    """

    def __init__(self, source: Source, devices: tuple[str, ...]) -> None:
        self._source, self._devices = source, devices
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()
        self._said: set[str] = set()

    def __reduce__(self) -> tuple[type[Crew], tuple[Any, ...]]:
        return Crew, (self._source, self._devices)

    def for_config(self, old: EchoConfig, new: EchoConfig) -> Crew:
        """This crew, if both configs run the same layers of the same weights; else a new one."""
        names = ("start_layer", "exit_layer", "final_norm", "packaged_adapter")
        same = all(getattr(old, name) == getattr(new, name) for name in names)
        return self if same else Crew(self._source, self._devices)

    def pool(
        self,
        config: EchoConfig,
        texts: Sequence[str],
        role: Role,
        instruction: str | None,
        cuts: Cuts,
        advance: Callable[[int], object],
    ) -> Vectors:
        """Pooled vectors of distinct texts, transforms applied, not yet of unit length: float32 ``[n, dim]``.

        Args:
            config: what to run.
            texts: in any order; the vectors come in theirs.
            role: what the texts are; it says which template they are laid into.
            instruction: for it.
            cuts: told what was cut, before a model runs.
            advance: told, in the caller's thread, how many texts each finished batch held.

        Raises:
            WorkerError: a worker process ended before its work was done.
            Exception: what a worker raised, by its class and message.
        """
        import torch

        from . import batching

        vectors = np.empty((0, 0), dtype=np.float32)
        window = WINDOW * len(self._devices)
        # Pieces smaller than a batch would only make work.
        least = min(batching.default_budget(torch.device(device)) for device in self._devices)
        for start in range(0, max(len(texts), 1), window):  # no texts have a dimension too
            part = texts[start : start + window]
            reading = self._read(config, part, config.template_for(role), instruction)
            cuts.add(part, reading.contents, reading.limit)
            if start == 0:
                vectors = np.empty((len(texts), reading.dimension), dtype=np.float32)
            costs = [reading.layout.total(len(content.ids)) for content in reading.contents]
            pieces = _pieces(costs, len(self._devices), least=least)
            tasks = [
                ("pool", ([part[i] for i in piece], [reading.contents[i] for i in piece], reading.layout, role))
                for piece in pieces
            ]
            with closing(self._run(config, tasks, advance)) as done:
                for number, rows in done:
                    vectors[start + np.asarray(pieces[number])] = rows
        return vectors

    def close(self) -> None:
        """End the workers, once calls under way in other threads are done; a later call starts new ones."""
        with self._lock:
            threads, self._threads, self._workers = self._threads, [], []
            if threads:
                self._dismiss()
        for thread in threads:
            thread.join()

    def _read(self, config: EchoConfig, texts: Sequence[str], template: Template, instruction: str | None) -> Reading:
        """Have texts tokenised, and warn of what the workers warned of."""
        size = max(_FEW, -(-len(texts) // len(self._devices)))
        tasks = [
            ("read", (list(texts[i : i + size]), template, instruction)) for i in range(0, max(len(texts), 1), size)
        ]
        found = dict(self._run(config, tasks, lambda _: None))
        readings: list[Reading] = [found[number] for number in range(len(tasks))]
        for message in (message for reading in readings for message in reading.warnings):
            if str(message) not in self._said:  # each worker says it
                self._said.add(str(message))
                warn(message if isinstance(message, Warning) else UserWarning(message))
        first = readings[0]
        contents = [content for reading in readings for content in reading.contents]
        return Reading(contents, first.layout, first.limit, first.dimension, [])

    def _run(
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
        self._source.location()  # the built-in model is fetched once, not by every worker
        self._workers = workers = [self._worker(i, config) for i in range(len(self._devices))]
        self._tasks: _Tasks = SimpleQueue()
        # Threads know the tasks and the workers, not the crew: so it can be forgotten, and that ends them.
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
        return Worker(self._source, config, device, threads, shows_bars=i == 0)


def crewed(source: Source, devices: Sequence[str] | None) -> tuple[Source, Crew | None]:
    """The source on the first of ``devices``, and a crew where there are several.

    Raises:
        ConfigError: a device is not there, or cannot be used with others.
    """
    if devices is None:
        return source, None
    devices = checked_devices(devices, source)
    source = replace(source, device=devices[0])
    return source, Crew(source, devices) if len(devices) > 1 else None


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
