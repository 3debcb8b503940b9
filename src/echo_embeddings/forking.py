"""Keep encoders usable in a process that is forked from one that used them (gunicorn ``--preload``, a DataLoader).

Only the thread that forks goes on in the new process. Three things would make it wait for ever there: a lock that
another thread held, work that another thread was to finish, and the threads that GNU's OpenMP library keeps for torch.
So a fork waits for our locks first (:class:`ForkLock`), work is given up in the new process (:func:`in_forks`), and
OpenMP's threads are ended before a fork.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import sys
import threading
import time
import weakref
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from echo_embeddings.errors import WorkerError

__all__ = ["ForkLock", "GivesUp", "forget_process", "forks", "in_forks"]

_log = logging.getLogger(__name__)

#: For so many seconds a fork waits for other threads: long enough for a batch, and for most models to load.
_PATIENCE = 30.0
#: For omp_pause_resource_all: give up the threads, but keep what was set (omp.h, since OpenMP 5.0).
_SOFT = 1

_numbers = count()
# What is alive, in the order of creation: an encoder's lock is made before the locks that are taken inside it.
_locks: dict[int, weakref.ref[ForkLock]] = {}
_owners: dict[int, weakref.ref[Any]] = {}


class GivesUp(Protocol):
    """What :func:`in_forks` takes."""

    def give_up(self) -> None:
        """Forget, in a forked process, the threads and processes of the parent."""


class ForkLock:
    """A lock that a thread may take several times. A fork waits until no other thread holds it.

    If another thread holds it for longer than half a minute, the fork goes on. Taking the lock in the new process then
    raises an error, because nobody would ever release it.

    Args:
        doing: what a thread does while it holds the lock, for that error: ``"was loading a model"``.
        innermost: threads take it while they hold other locks of ours, and never the other way round. A fork then takes
            it last. Without this, a fork takes locks in the order in which they were made.
    """

    def __init__(self, doing: str, *, innermost: bool = False) -> None:
        self._doing, self._lock, self._lost = doing, threading.RLock(), False
        self.innermost = innermost
        _remember(self, _locks)

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            WorkerError: the thread that holds it is not in this process.
        """
        if self._lost:
            raise WorkerError(
                f"this process was forked while another thread {self._doing}, and that thread does not exist here; "
                "make a new EchoEncoder in this process, or fork when no other thread uses an encoder"
            )
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def acquire(self, seconds: float) -> bool:
        """Take the lock for a fork; false if another thread holds it for so long."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Release what :meth:`acquire` took."""
        self._lock.release()

    def lose_if_held(self) -> None:
        """Find out, in a forked process, whether a thread holds the lock that is not there."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lost = True


class _Forking(threading.local):
    """What one thread knows between the beginning and the end of a fork."""

    def __init__(self) -> None:
        self.prepared = False
        self.held: list[ForkLock] = []
        self.keeps_threads = True


_forking = _Forking()
_forks = 0


def forks() -> int:
    """How many forks lie between this process and the one in which this package was imported."""
    return _forks


def in_forks(owner: GivesUp) -> None:
    """Call ``owner.give_up()`` in each process that is forked from this one, before anything else runs there.

    Args:
        owner: what began something that cannot go on there. It is not kept alive.
    """
    _remember(owner, _owners)


def forget_process(process: Any) -> None:
    """Let multiprocessing forget a process, which it would end when this process ends.

    It does not see by itself that a process has ended if something else asked for the exit code, nor that a process
    belongs to the parent of a forked process.
    """
    getattr(multiprocessing.process, "_children", set()).discard(process)


def _before() -> None:
    until, asked = time.monotonic() + _PATIENCE, list[ForkLock]()
    for innermost in (False, True):
        # Again until there is no new lock: a thread that loads a model makes some, and may take them next.
        while new := [lock for lock in _living(_locks) if lock.innermost is innermost and lock not in asked]:
            asked += new
            _forking.held += [lock for lock in new if lock.acquire(max(0.0, until - time.monotonic()))]
    _forking.keeps_threads = not _gives_up_threads()
    _forking.prepared = True


def _after() -> None:
    for lock in _forking.held:
        lock.release()
    _forking.__init__()  # type: ignore[misc]  # as it was before the fork


def _in_child() -> None:
    global _forks  # noqa: PLW0603 - of the whole process
    _forks += 1
    for lock in _living(_locks):
        lock.lose_if_held()
    # A server that forks in C may leave out what comes before a fork.
    if _forking.keeps_threads if _forking.prepared else "torch" in sys.modules:
        _use_one_thread()
    if "tokenizers" in sys.modules:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are not here, even if the user wants them
    _after()
    for owner in _living(_owners):
        owner.give_up()


def _remember(one: Any, where: dict[int, weakref.ref[Any]]) -> None:
    number, forget = next(_numbers), where.pop  # bound now, because at Python's end there may be no ``where``
    where[number] = weakref.ref(one, lambda _: forget(number, None))


def _living(where: dict[int, Any]) -> list[Any]:
    found = [reference() for reference in where.copy().values()]
    return [one for one in found if one is not None]


def _gives_up_threads() -> bool:
    """Let GNU's OpenMP end the threads that it keeps for this thread; it starts new ones when it needs them.

    Returns:
        Whether torch may use several threads in the new process. With another OpenMP library (LLVM's, Intel's) it may,
        because they look after forks themselves.
    """
    return "torch" not in sys.modules or all(pause is not None and pause(_SOFT) == 0 for pause in _pauses())


def _pauses() -> list[Any]:
    """The function ``omp_pause_resource_all`` of each GNU OpenMP library in this process; ``None`` for an old one."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []  # not Linux: torch comes with LLVM's
    paths = {line.split(maxsplit=5)[-1] for line in lines if "libgomp" in line}
    return [_pause_of(path) for path in paths]


@cache
def _pause_of(path: str) -> Any:
    try:
        return getattr(ctypes.CDLL(path), "omp_pause_resource_all", None)
    except OSError:
        return None


def _use_one_thread() -> None:
    set_num_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_num_threads is not None:
        set_num_threads(1)
        _log.warning(
            "process %d was forked from one that uses torch, whose threads are not in it: models run on one thread "
            "here; for more, import torch after the fork",
            os.getpid(),
        )


if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
