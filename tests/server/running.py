"""A server in a process of its own, as ``echo-embeddings serve`` starts it, with a tiny model."""

import json
import os
import signal
import time
from contextlib import contextmanager

from tests import processes

SCRIPT = "from echo_embeddings.cli import main; main()"


class Server:
    """A server that runs."""

    def __init__(self, process, log):
        self._process, self._log = process, log
        self.pid = process.pid

    @property
    def url(self):
        return next(line["url"] for line in self.lines() if line["event"] == "ready")

    def lines(self):
        """What it has logged."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def events(self, name="request"):
        return [line for line in self.lines() if line["event"] == name]

    def stop(self, number=signal.SIGTERM):
        os.kill(self.pid, number)

    def wait(self, seconds=60):
        self._process.join(seconds)
        return self._process.exitcode

    def wait_until(self, condition, seconds=60):
        until = time.monotonic() + seconds
        while not condition():
            assert self._process.is_alive(), self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.01)


@contextmanager
def running(folder, log, *options, env=None, script=SCRIPT):
    """Serve a model's folder (``None``: the built-in model) on a free port, until the block is left."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    model = [] if folder is None else [folder]
    process = processes.start(script, "serve", *model, "--port", "0", *options, env=environment, stderr=log)
    server = Server(process, log)
    try:
        server.wait_until(lambda: log.exists() and '"ready"' in log.read_text())
        yield server
    finally:
        if process.exitcode is None:
            process.kill()
        process.join()
