"""Run functions in forked processes, and in threads beside a fork."""

import multiprocessing
import os
import signal
import threading
import traceback

import pytest


def forked(function, seconds=60):
    """What a function returns in a forked process; fails if that takes too long."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    if (pid := os.fork()) == 0:
        return _run(function, theirs)
    theirs.close()
    try:
        if not ours.poll(seconds):
            pytest.fail(f"nothing came from the forked process in {seconds} s")
        kind, value = ours.recv()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if kind == "failed":
        pytest.fail(f"in the forked process:\n{value}")
    return value


def _run(function, theirs):
    signal.alarm(90)  # ends the process, also where Python waits
    try:
        theirs.send(("done", function()))
    except BaseException:  # noqa: BLE001 (raised in the parent)
        theirs.send(("failed", traceback.format_exc()))
    finally:
        os._exit(0)


class Background:
    """Calls a function in a thread, again and again, while the block runs."""

    def __init__(self, function):
        self._function, self._over, self._began = function, False, threading.Event()

    def _work(self):
        while not self._over:
            self._began.set()
            self._function()

    def __enter__(self):
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self._began.wait()

    def __exit__(self, *_):
        self._over = True
        self._thread.join()
