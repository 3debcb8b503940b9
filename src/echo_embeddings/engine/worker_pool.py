"""Run a model on several devices: one worker process for each; a free worker takes the next piece of the texts.

All workers first tokenise a chunk's texts. So a text that is too long is reported before a model runs, and the pieces
are made by true token counts.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import WorkerError, warn
from echo_embeddings.forking import ForkLock, in_forks
from echo_embeddings.model.device import is_cpu
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.inputs import portions
from echo_embeddings.text.truncation import TruncationCount
from echo_embeddings.types import Role, Vectors

from .worker import CLOSED, Call, Setup, Tokenised, Worker, require_processes

if TYPE_CHECKING:
    from echo_embeddings.text.layout import Ids

    from .readout import Readout

__all__ = ["WorkerPool"]

_Task = tuple[str, tuple[Any, ...]]
_Tasks = SimpleQueue["tuple[Call, int, _Task] | None"]

# So few texts are tokenised by one worker: to share them would cost more than it saves.
_FEW = 64
# So many different warnings of workers are remembered, so as not to repeat them.
_MOST_SAID = 256


class WorkerPool:
    """The engine for several devices: each has a worker process, and a free worker takes the next piece of the texts.

    Workers start at the first text, serve any number of calls and threads, and end when no ``WorkerPool`` uses them any
    more. No weights are loaded in this process. A ``WorkerPool`` can be pickled and copied; the copy starts its own
    workers.

    Args:
        spec: the model.
        config: what to run.
        options: how each worker runs the model; there is one worker for each of its ``devices``.
        workers: those of another ``WorkerPool`` with the same layers and weights, to share; ``None`` to start new ones.
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
        """Number of dimensions of a vector. A worker is asked once."""
        if self._dimension is None:
            self._dimension = int(self._ask("dimension"))
        return self._dimension

    def limit(self, role: Role, instruction: str | None = None) -> int:
        """The most content tokens that are embedded of a text of this role; further tokens are truncated."""
        return int(self._ask("limit", role, instruction))

    def tokenize(self, texts: Sequence[str], role: Role) -> list[int]:
        """Count the content tokens of each text, before truncation."""
        counts: list[int] = self._ask("tokenize", list(texts), role)
        return counts

    def unembedding(self) -> Vectors:
        """The unembedding matrix ``[vocabulary, hidden]``, float32."""
        matrix: Vectors = self._ask("unembedding")
        return matrix

    def with_config(self, config: EchoConfig) -> WorkerPool | None:
        """An engine with the same workers, if both configs run the same layers of the same weights; else ``None``."""
        names = ("start_layer", "exit_layer", "final_norm", "packaged_adapter")
        if any(getattr(self.config, name) != getattr(config, name) for name in names):
            return None
        return WorkerPool(self._spec, config, self._options, self._workers)

    def describe(self) -> dict[str, str]:
        """Facts about how a worker runs the model, and the devices; see ``Engine.describe``."""
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
        spans: Sequence[Ids] | None = None,
    ) -> Any:
        """Embed distinct texts; see ``Engine.embed``. ``advance`` is called in the caller's thread.

        Raises:
            WorkerError: a worker process ended before its work was done, or the encoder was closed meanwhile.
            Exception: the error that a worker raised, with the same class and message.
        """
        import torch

        from . import batch_size

        found: Any = [None] * len(texts)
        # Pieces smaller than a batch would only add overhead.
        least = min(batch_size.default_budget(torch.device(device)) for device in self._devices)
        with self._workers.call(self.config) as call:
            # At least once: the result for no texts has a dimension too.
            for portion in portions(texts, len(self._devices)) or [slice(0, 0)]:
                part, start = texts[portion], portion.start
                own = None if spans is None else spans[portion]
                tokenised = self._tokenise(call, part, role, instruction, own)
                truncation.add(part, tokenised.contents, tokenised.limit)
                if start == 0 and readout == "text":
                    found = np.empty((len(texts), tokenised.dimension), dtype=np.float32)
                costs = [tokenised.layout.total(len(content.ids)) for content in tokenised.contents]
                pieces = _pieces(costs, len(self._devices), least=least)
                tasks = [_read_out(readout, part, tokenised, piece, role) for piece in pieces]
                for number, some in self._workers.run(call, tasks, advance):
                    places = [start + i for i in pieces[number]]
                    if readout == "text":
                        found[places] = some
                        continue
                    for place, one in zip(places, some, strict=True):
                        found[place] = one
        return found

    def close(self) -> None:
        """End the workers. A call under way in another thread ends with a ``WorkerError``; a later call starts others.

        Other encoders that share the workers (``EchoEncoder.with_config``) start others too.
        """
        self._workers.close()

    def _ask(self, name: str, *arguments: Any) -> Any:
        """The value of a property of a worker's runtime, or the result of one of its methods."""
        with self._workers.call(self.config) as call:
            return dict(self._workers.run(call, [("ask", (name, *arguments))]))[0]

    def _tokenise(
        self, call: Call, texts: Sequence[str], role: Role, instruction: str | None, spans: Sequence[Ids] | None
    ) -> Tokenised:
        """Let the workers tokenise texts, and repeat their warnings in this process."""
        size = max(_FEW, -(-len(texts) // len(self._devices)))
        some = [slice(i, i + size) for i in range(0, max(len(texts), 1), size)]
        tasks = [
            ("tokenise", (list(texts[one]), role, instruction, None if spans is None else list(spans[one])))
            for one in some
        ]
        found = dict(self._workers.run(call, tasks))
        parts: list[Tokenised] = [found[number] for number in range(len(tasks))]
        for message in (message for part in parts for message in part.warnings):
            if str(message) not in self._said:  # several workers send the same warning
                self._said = {*self._said, str(message)} if len(self._said) < _MOST_SAID else {str(message)}
                warn(message if isinstance(message, Warning) else UserWarning(message))
        first = parts[0]
        contents = [content for part in parts for content in part.contents]
        return Tokenised(contents, first.layout, first.limit, first.dimension, [])


class _Workers:
    """The worker processes of an encoder, and the calls that they work for."""

    def __init__(self, spec: ModelSpec, devices: tuple[str, ...], options: EncoderOptions) -> None:
        self._spec, self._devices, self._options = spec, devices, options
        self._lock = ForkLock("was starting worker processes")
        self._calls: set[Call] = set()
        self._crew: _Crew | None = None
        self._dismiss: weakref.finalize[[], _Workers] | None = None
        in_forks(self)

    @contextmanager
    def call(self, config: EchoConfig) -> Iterator[Call]:
        """A call whose tasks may be run in the block. After the block nobody waits for those that are left."""
        call = Call(config)
        with self._lock:
            self._calls.add(call)
        try:
            yield call
        finally:
            call.over = True  # after an error or Ctrl-C too
            with self._lock:
                self._calls.discard(call)

    def run(
        self, call: Call, tasks: Sequence[_Task], advance: Callable[[int], object] = lambda _: None
    ) -> Iterator[tuple[int, Any]]:
        """Give tasks to free workers. Yields each task's number and result, in the order in which they finish.

        Raises:
            WorkerError: the workers cannot be started, one ended, or they were closed during the call.
            Exception: the error that a task raised in a worker.
        """
        queue = self._queue(call)
        for number, task in enumerate(tasks):
            queue.put((call, number, task))
        left = len(tasks)
        while left:
            kind, number, value = call.events.get()
            if kind == "failed":
                try:
                    raise value
                finally:
                    del value  # otherwise the error would hold itself, by its traceback
            if kind == "batch":
                advance(value)
            else:
                left -= 1
                yield number, value

    def close(self) -> None:
        """End the calls under way with an error, and the workers. A later call starts new ones."""
        with self._lock:
            crew, calls = self._crew, self._calls
            self._forget()
        for call in calls:
            call.end(WorkerError(CLOSED))
        if crew is not None:
            crew.end()

    def _queue(self, call: Call) -> _Tasks:
        """The queue of the workers' tasks; starts the workers that are not there."""
        require_processes()
        if self._crew is None:
            self._spec.location()  # the built-in model is fetched once, not by every worker
        with self._lock:
            if call.error is not None:
                raise call.error
            if self._crew is None:
                self._crew = _Crew(self._setups(call.config))
                self._dismiss = weakref.finalize(self, self._crew.dismiss)
                self._dismiss.atexit = False  # at exit multiprocessing ends its daemons itself
            crew = self._crew
        crew.start()
        return crew.tasks

    def _setups(self, config: EchoConfig) -> list[Setup]:
        import torch

        share = max(1, torch.get_num_threads() // max(1, sum(map(is_cpu, self._devices))))
        return [
            Setup(
                replace(self._spec, device=device),
                config,
                self._options,
                share if is_cpu(device) else None,
                shows_bars=i == 0,
            )
            for i, device in enumerate(self._devices)
        ]

    def give_up(self) -> None:
        """Leave the workers, in a forked process, to its parent."""
        for call in self._calls:
            call.end(WorkerError("this process was forked in the middle of a call, whose workers belong to its parent"))
        if self._crew is not None:
            self._crew.abandon()
        self._forget()

    def _forget(self) -> None:
        if self._dismiss is not None:
            self._dismiss.detach()
        self._calls, self._crew, self._dismiss = set(), None, None


class _Crew:
    """Workers that were started together, and for each of them a thread of this process that gives it tasks.

    The threads know the queue and their worker, but not this object. So it can be garbage collected.

    Raises:
        WorkerError: a thread cannot be started.
    """

    def __init__(self, setups: Sequence[Setup]) -> None:
        self.tasks: _Tasks = SimpleQueue()
        self._workers = [Worker(setup) for setup in setups]
        self._threads = [
            threading.Thread(target=_attend, args=(self.tasks, worker), name=f"echo-embeddings-{i}", daemon=True)
            for i, worker in enumerate(self._workers)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self.dismiss()
            raise WorkerError(f"the threads that attend to worker processes cannot be started: {error}") from error

    def start(self) -> None:
        """Start the processes that are not there: all of them at first, later those that have ended."""
        for worker in self._workers:
            worker.start()

    def end(self) -> None:
        """End all processes and threads, also in the middle of a task."""
        for worker in self._workers:
            worker.close()
        self.dismiss()
        for thread in self._threads:
            thread.join()

    def dismiss(self) -> None:
        """Let each thread end, and with it its process, after the tasks that are left."""
        for _ in self._threads:
            self.tasks.put(None)

    def abandon(self) -> None:
        """Let go of the processes, in a forked process."""
        for worker in self._workers:
            worker.abandon()


def _read_out(readout: Readout, texts: Sequence[str], tokenised: Tokenised, piece: list[int], role: Role) -> _Task:
    """The task to embed one piece of these texts."""
    contents = [tokenised.contents[i] for i in piece]
    return "read_out", (readout, [texts[i] for i in piece], contents, tokenised.layout, role)


def _pieces(costs: Sequence[int], workers: int, *, least: int) -> list[list[int]]:
    """Split texts into pieces of similar length, longest first: large pieces at first, smaller ones towards the end.

    Large pieces make full batches; small ones at the end let all workers finish at about the same time.

    Args:
        costs: tokens of each sequence.
        workers: how many workers share the pieces.
        least: the size to which pieces shrink, in tokens. The last piece may be smaller.

    Returns:
        Lists of indices into ``costs``; each index occurs once.
    """
    order = np.argsort(-np.asarray(costs), kind="stable").tolist()
    pieces, start, left = [], 0, sum(costs)
    while start < len(order):
        size = max(least, left // (2 * workers))
        # Count every text as long as the longest, as a padded batch does: so a piece of a batch's size fits one batch.
        piece = order[start : start + max(1, size // costs[order[start]])]
        pieces.append(piece)
        start, left = start + len(piece), left - sum(costs[i] for i in piece)
    return pieces


def _attend(tasks: _Tasks, worker: Worker) -> None:
    """What a worker's thread does: give the worker tasks until there are no more, then end it."""
    while _one_more(tasks, worker):
        pass
    worker.close()


def _one_more(tasks: _Tasks, worker: Worker) -> bool:
    """Do one task; false if there are no more.

    A function of its own, because its local variables would otherwise keep the last call alive while the thread waits.
    """
    if (taken := tasks.get()) is None:
        return False
    call, number, (method, arguments) = taken
    if not call.over:
        try:
            call.events.put(("done", number, worker.do(call, number, method, arguments)))
        except BaseException as error:  # noqa: BLE001  (raised in the caller's thread)
            call.events.put(("failed", number, error))
    return True
