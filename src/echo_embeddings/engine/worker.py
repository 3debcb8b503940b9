"""One worker process: a model on its device, and how its parent talks to it. A worker knows no other worker.

Parent to worker: first a ``Setup``; then ``(config or None, method, arguments)``, or ``None`` for "drop what you are
doing". Worker to parent: any number of ``("batch", texts)``, then ``("done", result)`` or
``("failed", (error, traceback))``.
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

# The exit code of a process that was to become a worker, but came upon the parent's own work to do.
_UNGUARDED = 73


@dataclass
class Call:
    """One call to a crew, whose tasks are spread over the workers.

    Attributes:
        config: what to run.
        events: ``(kind, number of the task, value)`` in the order they happen; see ``Crew``.
        over: nobody waits for what is left of it.
    """

    config: EchoConfig
    events: SimpleQueue[tuple[str, int, Any]] = field(default_factory=SimpleQueue)
    over: bool = False


@dataclass(frozen=True)
class Setup:
    """What a worker process needs to begin. Sent over its connection, not as arguments of the process.

    The arguments are written to a pipe while the process starts, before it reads any. More than the pipe takes, such as
    the arrays of a config, would keep the parent waiting for ever if the process ends at once.
    """

    spec: ModelSpec
    config: EchoConfig
    options: EncoderOptions
    threads: int | None
    shows_bars: bool


@dataclass(frozen=True)
class Tokenised:
    """Texts tokenised by a worker, and what its runtime says of them and of itself."""

    contents: list[Content]
    layout: Layout
    limit: int
    dimension: int
    warnings: list[Warning | str]


class Worker:
    """The parent's end of a worker process, which starts at once and loads its model on its own.

    Args:
        setup: the model on its device, the config that it will be asked to run first, and how.

    Raises:
        WorkerError: this process may have no children.
    """

    def __init__(self, setup: Setup) -> None:
        if multiprocessing.current_process().daemon:
            raise WorkerError(
                "devices= needs processes of its own, which a daemonic process (of a multiprocessing.Pool, say) may "
                "not start; give this encoder one device: EchoEncoder(device=...)"
            )
        # Set while a new process imports the script it was started from; there, multiprocessing would raise.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(_UNGUARDED)
        context = multiprocessing.get_context("spawn")
        self._setup: Setup | None = setup
        self._device, self._config = setup.spec.device, setup.config
        self._lock = threading.Lock()
        self._conn, theirs = context.Pipe()
        # A daemon: it ends with its parent. Should the parent be killed, the closed pipe ends it.
        self._process = context.Process(
            target=_work, args=(theirs,), name=f"echo-embeddings worker on {self._device}", daemon=True
        )
        self._process.start()
        theirs.close()  # else the death of the worker would not close the pipe

    def alive(self) -> bool:
        """Whether the process is there."""
        with self._lock:
            return self._process.is_alive()

    def do(self, call: Call, number: int, method: str, arguments: tuple[Any, ...]) -> Any:
        """Have a task done and wait for its result; batches done on the way go to the call's events.

        Raises:
            WorkerError: the process ended.
            Exception: what the task raised there, by its class and message.
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
        """End the process, which is idle or still loading: there is nothing to wait for."""
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
    """The traceback of an error in the process where it was raised, shown as its cause."""

    def __str__(self) -> str:
        return f"in a worker process:\n{self.args[0]}"


class _Bench:
    """The worker's end: the model, under the config that it was given last."""

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
                self._loaded = None  # its weights make room for those that are loaded
                other = Runtime(load(spec), config, self._setup.options, spec)
            self._loaded = other
        return self._loaded

    def serve(self) -> None:
        """Do tasks until the parent closes the pipe."""
        while True:
            message = self._conn.recv()
            if message is None:
                continue  # the work to be dropped was already done
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
        """A property of the runtime, or what one of its methods returns."""
        found = getattr(self.runtime(), name)
        return found(*arguments) if callable(found) else found

    def _done(self, count: int) -> None:
        self._conn.send(("batch", count))
        if self._conn.poll():  # during a task the parent has only this to say
            raise WorkerError("nobody waits for the rest of this call")


def _work(conn: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    with suppress(EOFError, ConnectionError):  # the parent is gone, or wants no more
        setup: Setup = conn.recv()
        _prepare(setup)
        bench = _Bench(conn, setup)
        with suppress(Exception):  # the first task will say it
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
        torch.cuda.set_device(device)  # or libraries that ask for "the" GPU would take the first
    if not setup.shows_bars:
        logging.disable_progress_bar()


def _portable(error: Exception) -> Exception:
    """The error if it survives pickling; else one that says the same."""
    try:
        copy.copy(error)  # made from its class and arguments, as pickle will
        pickle.dumps(error)
    except Exception:  # noqa: BLE001  (whatever it is, the error itself is what matters)
        return WorkerError(f"{type(error).__name__}: {error}")
    return error
