"""One worker process: a model on its device, and how its parent talks to it. A worker knows no other worker.

The parent sends one pickled ``Setup``; then for each task ``(config, method, arguments)``, where ``None`` as config
means "as before". ``b"stop"`` means "stop the task that is running". The worker answers a task with any number of
``b"batch 12"`` (12 texts are done), then with ``("done", result)`` or ``("failed", (error, traceback))``.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.errors import WorkerError
from echo_embeddings.forking import ForkLock, forget_process
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.types import Role

if TYPE_CHECKING:
    from echo_embeddings.text.layout import Content, Ids, Layout

    from .readout import Readout
    from .runtime import Runtime

__all__ = ["CLOSED", "Call", "Setup", "State", "Tokenised", "Worker", "require_processes"]

#: Worker processes have names that begin so.
_NAME = "echo-embeddings worker"
#: Why a call ends when its workers are closed.
CLOSED = "the encoder was closed in the middle of this call; the next call starts new worker processes"
# The exit code of a worker that imports the user's script and finds that it embeds texts without a __main__ guard.
_UNGUARDED = 73
_GUARD = (
    "a worker process imports the script that is running, and this script embeds texts while it is imported. Put what "
    'it does under\n    if __name__ == "__main__":\nor give the encoder one device'
)
#: For so many seconds a process may end by itself, or because it was asked to, before it is killed.
_PATIENCE = 3.0
#: After it is killed, a process that waits for the kernel may take so many seconds to end.
_AFTER_KILL = 20.0
#: The exit code of a worker that was asked to end (SIGTERM) while it waited for a task.
_ASKED = 128 + 15
#: Messages that are no pickles: so many texts are done, and stop the task.
_BATCH, _STOP = b"batch ", b"stop"
# A fork of this process in the middle of a start would keep the worker's end of the connection open. Then nobody would
# notice that the worker has ended.
_starting = ForkLock("was starting a worker process", innermost=True)


@dataclass(eq=False)
class Call:
    """One call to the worker pool. Its tasks are spread over the workers.

    Attributes:
        config: what to run.
        events: ``(kind, number of the task, value)`` in the order in which they happen: ``("batch", number, texts)``,
            ``("done", number, result)`` or ``("failed", number, error)``.
        over: true once nobody waits for the remaining tasks.
        error: why it is over, if it was ended from outside.
    """

    config: EchoConfig
    events: SimpleQueue[tuple[str, int, Any]] = field(default_factory=SimpleQueue)
    over: bool = False
    error: WorkerError | None = None

    def end(self, error: WorkerError) -> None:
        """End the call with an error, which is raised in the thread that waits for it."""
        self.error, self.over = error, True
        self.events.put(("failed", -1, error))


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


def require_processes() -> None:
    """Refuse to start workers where that cannot work.

    Raises:
        WorkerError: this process is a daemon and may not start processes; or it is a new process that imports the
            script which started it.
    """
    process = multiprocessing.current_process()
    if process.daemon:
        raise WorkerError(
            "devices= needs processes of its own, which a daemonic process (of a multiprocessing.Pool, say) may "
            "not start; give this encoder one device: EchoEncoder(device=...)"
        )
    # Set while a new process imports the script that started it. multiprocessing would raise an error there.
    if getattr(process, "_inheriting", False):
        if process.name.startswith(_NAME):
            # The parent explains it. An exception could be caught, or be lost in a thread of the script.
            os._exit(_UNGUARDED)
        raise WorkerError(_GUARD)


class State(Enum):
    """What a ``Worker`` is doing. Its docstring says which state follows which."""

    ABSENT = "there is no process"
    IDLE = "the process waits for a task"
    BUSY = "the process has a task"
    CLOSED = "there will be no process any more"


class Worker:
    """The parent's side of a worker process.

    A worker is always in one of four states. These are all changes between them::

        ABSENT --start--> IDLE                        a process is started; the model is loaded with the first task
        IDLE --start or do, if the process has ended--> ABSENT, and on from there
        ABSENT or IDLE --do--> BUSY                   a task is sent, to a new process before it the setup
        BUSY --answer--> IDLE
        BUSY --the process ends, or its answer cannot be received--> ABSENT      do raises a WorkerError
        any --close--> CLOSED                                                    do raises a WorkerError

    A process never outlives its state: when a worker becomes ABSENT, or ``close`` returns, its process has ended. One
    thread calls ``do``; any thread may call ``start`` and ``close``.

    Args:
        setup: the model with its device, and how to run it. The config is that of the first task.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._lock = threading.Lock()
        self._state = State.ABSENT
        self._process: _Process | None = None
        self._config: EchoConfig | None = None

    @property
    def state(self) -> State:
        """The state in which the worker is now."""
        return self._state

    def do(self, call: Call, number: int, method: str, arguments: tuple[Any, ...]) -> Any:
        """Send a task to the worker and wait for its result; batches that it finishes go to the call's events.

        Args:
            call: the call that the task belongs to.
            number: the task's number in that call.
            method: a method of the worker's side: ``"tokenise"``, ``"read_out"`` or ``"ask"``.
            arguments: of that method.

        Raises:
            WorkerError: the process could not be started, or ended; or the worker is closed.
            Exception: the error that the task raised in the worker, with the same class and message.
        """
        process, setup = self._begin(call.config)
        try:
            if setup is not None:
                process.conn.send_bytes(setup)
            config = None if call.config is self._config else call.config
            process.conn.send_bytes(_pickled("a task", (config, method, arguments)))
            self._config = call.config
            answer = _answer(process.conn, call, number)
        except (EOFError, OSError):
            raise self._lost(process, _PATIENCE) from None
        except BaseException:
            # What is left of a message would be taken for the next one.
            self._lost(process, 0)
            raise
        with self._lock:
            if self._state is State.BUSY:
                self._state = State.IDLE
        return _result(answer)

    def close(self) -> None:
        """End the process, also in the middle of a task. The worker takes no more tasks."""
        with self._lock:
            before, self._state = self._state, State.CLOSED
            process = self._process
        if process is None:
            return
        process.end(0)
        if before is not State.BUSY:  # else the thread in ``do`` reads the connection, and closes it
            process.close()
            self._process = None

    def abandon(self) -> None:
        """Let go of the process in a forked process: it belongs to the parent."""
        if self._process is not None:
            forget_process(self._process.process)
            self._process.conn.close()  # otherwise the worker would not notice the end of its parent

    def start(self) -> None:
        """Start the process if there is none, so that it is there when the first task comes.

        Raises:
            WorkerError: the system does not let it start.
        """
        with self._lock:
            if self._state in (State.ABSENT, State.IDLE):
                self._started()

    def _started(self) -> _Process:
        """The process; it is started if there is none, or if it has ended unseen."""
        if self._process is not None and self._process.has_ended():
            self._process.close()
            self._process, self._state = None, State.ABSENT
        if self._process is None:
            self._process, self._config = _Process(str(self._setup.spec.device)), None
            self._state = State.IDLE
        return self._process

    def _begin(self, config: EchoConfig) -> tuple[_Process, Any]:
        """Become BUSY. Returns the process, and what to send to it first: a setup if it is new, else ``None``."""
        with self._lock:
            if self._state is State.CLOSED:
                raise WorkerError(CLOSED)
            process, setup = self._started(), None
            if self._config is None:
                setup = _pickled("the encoder's model, config or options", replace(self._setup, config=config))
                self._config = config
            self._state = State.BUSY
            return process, setup

    def _lost(self, process: _Process, patience: float) -> WorkerError:
        """End what is left of a process. Returns why it ended, as an error."""
        code = process.end(patience)
        process.close()
        with self._lock:
            self._process = None
            if self._state is State.CLOSED:
                return WorkerError(CLOSED)
            self._state = State.ABSENT
        return _ended(str(self._setup.spec.device), code)


class _Process:
    """A process that runs ``_work``, and the connection to it. Several threads may ask it to end.

    It is a daemon, which ends with its parent. If the parent is killed, the closed connection ends the process.
    """

    def __init__(self, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._code: int | None = None
        self._has_ended = False
        with _starting:
            self.conn, theirs = context.Pipe()
            self.process = context.Process(target=_work, args=(theirs,), name=f"{_NAME} on {device}", daemon=True)
            try:
                self.process.start()
            except OSError as error:
                self.conn.close()
                raise WorkerError(
                    f"a worker process for device {device!r} could not be started: {error}; use fewer devices"
                ) from error
            finally:
                theirs.close()  # otherwise the connection would stay open when the worker dies

    def has_ended(self) -> bool:
        with self._lock:
            if not self._has_ended:
                self._code = self.process.exitcode
                self._has_ended = self._code is not None or not _exists(self.process.pid)
            return self._has_ended

    def end(self, patience: float) -> int | None:
        """Wait so many seconds for the process to end; then ask it to end, then kill it.

        Returns:
            Its exit code; ``None`` if the user's program has asked for it before.
        """
        for act, seconds in ((None, patience), (self.process.terminate, _PATIENCE), (self.process.kill, _AFTER_KILL)):
            if act is not None:
                with self._lock, suppress(OSError):  # it has ended in between
                    act()
            # Asked again and again, because two threads may ask at once, and only one of them is told.
            until = time.monotonic() + seconds
            while not (ended := self.has_ended()) and time.monotonic() < until:
                time.sleep(0.01)
            if ended:
                break
        return self._code

    def close(self) -> None:
        """Free the connection to the process, which has ended.

        The process itself is freed when nobody refers to it. To close it would disturb multiprocessing, which waits for
        it when Python ends.
        """
        self.conn.close()
        forget_process(self.process)


def _exists(pid: int | None) -> bool:
    """Whether there is such a process, as far as can be known."""
    if pid is None or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _answer(conn: Connection, call: Call, number: int) -> Any:
    """The worker's answer to a task, pickled. Batches that it finishes before go to the call's events."""
    told = False
    while True:
        answer = conn.recv_bytes()
        if not answer.startswith(_BATCH):
            return answer
        if not call.over:
            call.events.put(("batch", number, int(answer[len(_BATCH) :])))
        elif not told:
            conn.send_bytes(_STOP)
            told = True


def _result(answer: bytes) -> Any:
    try:
        kind, value = pickle.loads(answer)  # noqa: S301 (from our own process)
    except Exception as error:
        raise WorkerError(f"what a worker process sent cannot be read here: {type(error).__name__}: {error}") from error
    if kind == "failed":
        raised: Exception = value[0]
        raised.__cause__ = _InWorker(value[1])
        raise raised
    return value


def _pickled(name: str, value: Any) -> Any:
    try:
        return ForkingPickler.dumps(value)
    except Exception as error:
        raise WorkerError(
            f"{name} cannot be sent to a worker process: {type(error).__name__}: {error}; give the encoder one device"
        ) from error


def _ended(device: str, code: int | None) -> WorkerError:
    if code == _UNGUARDED:
        return WorkerError(_GUARD)
    name = f" ({signal.Signals(-code).name})" if code is not None and code < 0 else ""
    why = "often that is memory running out: use fewer devices" if name else "what it wrote above may say why"
    return WorkerError(
        f"the worker process on device {device!r} ended with exit code {code}{name} before its work was done; {why}. "
        "The next call starts a new one"
    )


class _InWorker(Exception):  # noqa: N818 - only the cause of one
    """The traceback of an error in the worker process; it is shown as the cause of the error raised here."""

    def __str__(self) -> str:
        return f"in a worker process:\n{self.args[0]}"


class _Bench:
    """The worker's side: the model, with the config that it was sent last."""

    def __init__(self, conn: Connection, setup: bytes) -> None:
        self._conn, self._message = conn, setup
        self._setup: Setup | None = None
        self._config: EchoConfig | None = None
        self._loaded: Runtime | None = None

    def setup(self) -> Setup:
        """What the parent sent first. The first use prepares the process; one that failed is tried again."""
        if self._setup is None:
            setup: Setup = pickle.loads(self._message)  # noqa: S301 (from our own process)
            _prepare(setup)
            self._setup = setup
        return self._setup

    def runtime(self) -> Runtime:
        from echo_embeddings.model.loading import load

        from .runtime import Runtime

        setup = self.setup()
        config = self._config or setup.config
        if self._loaded is None or self._loaded.config is not config:
            other = None if self._loaded is None else self._loaded.with_config(config)
            if other is None:
                spec = setup.spec.for_config(config)
                self._loaded = None  # frees the memory of its weights before others are loaded
                other = Runtime(load(spec), config, setup.options, spec)
            self._loaded = other
        return self._loaded

    def task(self, message: bytes) -> Any:
        """Do one task."""
        config, method, arguments = pickle.loads(message)  # noqa: S301 (from our own process)
        self._config = self._config if config is None else config
        return getattr(self, method)(*arguments)

    def tokenise(
        self, texts: list[str], role: Role, instruction: str | None, spans: list[Ids] | None = None
    ) -> Tokenised:
        runtime = self.runtime()
        template = runtime.config.template_for(role)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layout = runtime.layout(template, instruction)
            contents = runtime.tokenised(texts, template, instruction, spans)
        said = [warning.message for warning in caught]
        return Tokenised(contents, layout, runtime.limit_of(layout), runtime.dimension, said)

    def read_out(self, readout: Readout, texts: list[str], contents: list[Content], layout: Layout, role: Role) -> Any:
        return self.runtime().read_out(readout, texts, contents, layout, role, self._done)

    def ask(self, name: str, *arguments: Any) -> Any:
        """The value of a property of the runtime, or the result of one of its methods."""
        found = getattr(self.runtime(), name)
        return found(*arguments) if callable(found) else found

    def _done(self, count: int) -> None:
        self._conn.send_bytes(_BATCH + str(count).encode())
        if self._conn.poll():  # during a task the parent sends nothing but "stop"
            raise WorkerError("nobody waits for the rest of this call")


def _work(conn: Connection) -> None:
    """What a worker process does, until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; only the parent acts
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends it at once, also in the middle of a long operation
    with suppress(EOFError, OSError):  # the parent has ended or closed the connection
        setup = conn.recv_bytes()
        bench = _Bench(conn, setup)
        _attempt(bench.runtime)  # the first task raises the same error, and reports it
        while True:
            signal.signal(signal.SIGTERM, _leave)
            message = conn.recv_bytes()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if message != _STOP:  # else the task to stop was finished already
                conn.send_bytes(_sendable(_attempt(partial(bench.task, message))))


def _leave(*_: object) -> None:
    """Let Python free what outlives a process, such as named semaphores, when the worker is asked to end."""
    if hasattr(signal, "alarm"):  # in case something does not let Python end
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(2)
    sys.exit(_ASKED)


def _attempt(work: Callable[[], Any]) -> tuple[str, Any]:
    """``("done", result)``, or ``("failed", (error, traceback))``, which is raised in the parent."""
    try:
        return "done", work()
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  (libraries written in Rust panic with one)
        return "failed", (_portable(error), traceback.format_exc())


def _sendable(answer: tuple[str, Any]) -> Any:
    pickled = _attempt(lambda: ForkingPickler.dumps(answer))
    return pickled[1] if pickled[0] == "done" else ForkingPickler.dumps(pickled)


def _prepare(setup: Setup) -> None:
    if setup.threads is not None:
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), str(setup.threads)))
    import torch
    from tqdm import tqdm
    from transformers.utils import logging

    tqdm.set_lock(threading.RLock())  # its own is a named semaphore, which would outlive a worker that is killed
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    device = setup.spec.device
    if device is not None and device.startswith("cuda:"):
        torch.cuda.set_device(device)  # otherwise libraries that ask for the current GPU would get the first one
    if not setup.shows_bars:
        logging.disable_progress_bar()


def _portable(error: BaseException) -> Exception:
    """The error itself if it can be unpickled in the parent; else a ``WorkerError`` with its class and message."""
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:  # noqa: BLE001  (why it cannot be pickled does not matter)
        again = None
    # In the parent the module of the user's script has another name.
    if isinstance(error, Exception) and type(again) is type(error) and type(error).__module__ != "__mp_main__":
        return error
    return WorkerError(f"{type(error).__name__}: {error}")
