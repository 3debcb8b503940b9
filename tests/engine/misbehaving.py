"""The worker's side of a connection that ends, hangs or sends nonsense at a moment that a file names.

A spawned process imports this module and nothing heavier, so that a test may start many of them.
"""

import os
import pickle
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path


def work(conn):
    """What a process does instead of ``worker._work``. The model's name is the file that says how to behave."""
    with suppress(EOFError, OSError):
        early = os.environ.get("MISBEHAVES", "")
        if early == "before the setup":
            kill()
        if early == "in the setup":
            os.read(conn.fileno(), 10)
            kill()
        if early == "leaves before the setup":
            os._exit(3)
        behaviour = Path(pickle.loads(conn.recv_bytes()).spec.model)
        if behaviour.read_text() == "before the task":
            kill()
        while True:
            task = conn.recv_bytes()
            if task != b"stop":
                answer(conn, behaviour.read_text(), *pickle.loads(task)[1:])


def answer(conn, behaviour, method, arguments):
    if behaviour == "in the task":
        kill()
    if behaviour == "leaves":
        os._exit(3)
    if behaviour == "in the answer":
        os.write(conn.fileno(), struct.pack("!i", 1000) + b"\x80")
        kill()
    if behaviour == "after a batch":
        conn.send_bytes(b"batch 2")
        kill()
    if behaviour == "nonsense":
        return conn.send_bytes(b"nonsense")
    if behaviour == "raises what is unknown here":
        return conn.send_bytes(b"\x80\x04cno_such_module\nError\n.")
    if behaviour in ("hangs", "stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else signal.SIG_DFL)
        conn.send_bytes(b"batch 1")
        time.sleep(600)
    return conn.send_bytes(pickle.dumps(("done", (method, *arguments))))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)
