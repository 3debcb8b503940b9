"""One worker process: a model on its device, and how its parent talks to it. A worker knows no other worker.

The parent sends one ``Setup``; then for each task ``(config, method, arguments)``, where ``None`` as config means "as
before". A bare ``None`` means "stop the task that is running". The worker answers a task with any number of
``("batch", number of texts)``, then ``("done", result)`` or ``("failed", (error, traceback))``.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import WorkerError
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.types import Role

if TYPE_CHECKING:
    from echo_embeddings.text.layout import Content, Layout

    from .readout import Readout
    from .runtime import Runtime

__all__ = ["Call", "Setup", "Tokenised", "Worker"]

# The exit code of a worker that imports the user's script and finds that it embeds texts without a __main__ guard.
_UNGUARDED = 73


@dataclass
class Call:
    """One call to the worker pool. Its tasks are spread over the workers.

    Attributes:
        config: what to run.
        events: ``(kind, number of the task, value)`` in the order in which they happen: ``("batch", number, texts)``,
            ``("done", number, result)`` or ``("failed", number, error)``.
        over: true once nobody waits for the remaining tasks.
    """

    config: EchoConfig
    events: SimpleQueue[tuple[str, int, Any]] = field(default_factory=SimpleQueue)
    over: bool = False


@dataclass(frozen=True)
class Setup:
    """What a worker process needs to begin. It is sent over the connection, not as arguments of the process.

    Process arguments are written to a pipe before the new process reads any of them. If they are larger than the pipe's
    buffer, as the arrays of a config can be, and the process ends at once, the parent would wait for ever.

    Attributes:
        spec: the model, on the worker's device.
        config: what to run first.
        options: how to run it.
        threads: CPU threads of the worker; ``None`` leaves torch's default.
        shows_bars: whether transformers may show progress bars.
    """

    spec: ModelSpec
    config: EchoConfig
    options: EncoderOptions
    threads: int | None
    shows_bars: bool


@dataclass(frozen=True)
class Tokenised:
    """Texts tokenised by a worker, with their layout and limit, the vectors' dimension, and warnings to repeat."""

    contents: list[Content]
    layout: Layout
    limit: int
    dimension: int
    warnings: list[Warning | str]


class Worker:
    """The parent's side of a worker process. The process starts at once and loads the model by itself.

    Args:
        setup: the model with its device, the config to run first, and how to run it.

    Raises:
        WorkerError: this process is a daemon and may not start processes.
    """

    def __init__(self, setup: Setup) -> None:
        if multiprocessing.current_process().daemon:
            raise WorkerError(
                "devices= needs processes of its own, which a daemonic process (of a multiprocessing.Pool, say) may "
                "not start; give this encoder one device: EchoEncoder(device=...)"
            )
        # Set while a new process imports the script that started it. multiprocessing would raise an error there.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(_UNGUARDED)
        context = multiprocessing.get_context("spawn")
        self._setup: Setup | None = setup
        self._device, self._config = setup.spec.device, setup.config
        self._lock = threading.Lock()
        self._conn, theirs = context.Pipe()
        # A daemon ends with its parent. If the parent is killed, the closed pipe ends the worker.
        self._process = context.Process(
            target=_work, args=(theirs,), name=f"echo-embeddings worker on {self._device}", daemon=True
        )
        self._process.start()
        theirs.close()  # otherwise the pipe would stay open when the worker dies

    def alive(self) -> bool:
        """Whether the process is running."""
        with self._lock:
            return self._process.is_alive()

    def do(self, call: Call, number: int, method: str, arguments: tuple[Any, ...]) -> Any:
        """Send a task to the worker and wait for its result; batches that it finishes go to the call's events.

        Args:
            call: the call that the task belongs to.
            number: the task's number in that call.
            method: a method of the worker's side: ``"tokenise"``, ``"read_out"`` or ``"ask"``.
            arguments: of that method.

        Raises:
            WorkerError: the process ended.
            Exception: the error that the task raised in the worker, with the same class and message.
        """
        try:
            if self._setup is not None:
                self._conn.send(self._setup)
                self._setup = None
            self._conn.send((None if call.config is self._config else call.config, method, arguments))
            self._config = call.config
            kind, value = self._reply(call, number)
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if kind == "failed":
            error, error.__cause__ = value[0], _InWorker(value[1])
            raise error
        return value

    def stop(self) -> None:
        """End the process at once. It must be idle or still loading the model."""
        self._process.terminate()
        self._process.join()
        self._conn.close()

    def _reply(self, call: Call, number: int) -> tuple[str, Any]:
        told = False
        while True:
            kind, value = self._conn.recv()
            if kind != "batch":
                return kind, value
            if not call.over:
                call.events.put(("batch", number, value))
            elif not told:
                self._conn.send(None)
                told = True

    def _ended(self) -> WorkerError:
        with self._lock:
            self._process.join(timeout=5)
            code = self._process.exitcode
        if code == _UNGUARDED:
            return WorkerError(
                "a worker process imports the script that is running, and this script embeds texts while it is "
                'imported. Put what it does under\n    if __name__ == "__main__":\nor give the encoder one device'
            )
        name = f" ({signal.Signals(-code).name})" if code is not None and code < 0 else ""
        why = "often that is memory running out: use fewer devices" if name else "what it wrote above may say why"
        return WorkerError(
            f"the worker process on device {self._device!r} ended with exit code {code}{name} before its work was "
            f"done; {why}. The next call starts a new one"
        )


class _InWorker(Exception):  # noqa: N818
    """The traceback of an error in the worker process; it is shown as the cause of the error raised here."""

    def __str__(self) -> str:
        return f"in a worker process:\n{self.args[0]}"


class _Bench:
    """The worker's side: the model, with the config that it was sent last."""

    def __init__(self, conn: Connection, setup: Setup) -> None:
        self._conn, self._setup, self._config = conn, setup, setup.config
        self._loaded: Runtime | None = None

    def runtime(self) -> Runtime:
        from echo_embeddings.model.loading import load

        from .runtime import Runtime

        config = self._config
        if self._loaded is None or self._loaded.config is not config:
            other = None if self._loaded is None else self._loaded.with_config(config)
            if other is None:
                spec = self._setup.spec.for_config(config)
                self._loaded = None  # frees the memory of its weights before others are loaded
                other = Runtime(load(spec), config, self._setup.options, spec)
            self._loaded = other
        return self._loaded

    def serve(self) -> None:
        """Do tasks until the parent closes the pipe."""
        while True:
            message = self._conn.recv()
            if message is None:
                continue  # the task to stop was finished already
            config, method, arguments = message
            self._config = self._config if config is None else config
            try:
                reply = ("done", getattr(self, method)(*arguments))
            except Exception as error:  # noqa: BLE001  (raised in the parent)
                reply = ("failed", (_portable(error), traceback.format_exc()))
            self._conn.send(reply)

    def tokenise(self, texts: list[str], role: Role, instruction: str | None) -> Tokenised:
        runtime = self.runtime()
        template = runtime.config.template_for(role)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layout = runtime.layout(template, instruction)
            contents = runtime.contents(texts, template, instruction)
        said = [warning.message for warning in caught]
        return Tokenised(contents, layout, runtime.limit_of(layout), runtime.dimension, said)

    def read_out(self, readout: Readout, texts: list[str], contents: list[Content], layout: Layout, role: Role) -> Any:
        return self.runtime().read_out(readout, texts, contents, layout, role, self._done)

    def ask(self, name: str, *arguments: Any) -> Any:
        """The value of a property of the runtime, or the result of one of its methods."""
        found = getattr(self.runtime(), name)
        return found(*arguments) if callable(found) else found

    def _done(self, count: int) -> None:
        self._conn.send(("batch", count))
        if self._conn.poll():  # during a task the parent sends nothing but "stop"
            raise WorkerError("nobody waits for the rest of this call")


def _work(conn: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; only the parent acts
    with suppress(EOFError, ConnectionError):  # the parent has ended or closed the pipe
        setup: Setup = conn.recv()
        _prepare(setup)
        bench = _Bench(conn, setup)
        with suppress(Exception):  # the first task raises the same error, and reports it
            bench.runtime()
        bench.serve()


def _prepare(setup: Setup) -> None:
    if setup.threads is not None:
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(setup.threads)))
    import torch
    from transformers.utils import logging

    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    device = setup.spec.device
    if device is not None and device.startswith("cuda:"):
        torch.cuda.set_device(device)  # otherwise libraries that ask for the current GPU would get the first one
    if not setup.shows_bars:
        logging.disable_progress_bar()


def _portable(error: Exception) -> Exception:
    """The error itself if it can be pickled; else a ``WorkerError`` with its class and message."""
    try:
        copy.copy(error)  # rebuilds it from class and arguments, as unpickling will
        pickle.dumps(error)
    except Exception:  # noqa: BLE001  (why it cannot be pickled does not matter)
        return WorkerError(f"{type(error).__name__}: {error}")
    return error
