"""Scripts in processes of their own, each forked from one that has imported the libraries already.

To import torch and transformers takes seconds, and a test that kills a process at each of its steps starts dozens of
them. The process they are forked from has imported libraries only: nothing of this repository but this file, and no
model has run in it. So a script finds what it finds in a fresh process, but for the time. What is about starting
Python, about what is imported, or about processes that a script starts itself still begins with ``sys.executable``.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import types
from pathlib import Path

_LIBRARIES = ["pyarrow.parquet", "scipy.sparse", "torch", "transformers.models.llama.modeling_llama"]


def run(script, *arguments, cwd=None, env=None, timeout=300) -> subprocess.CompletedProcess:
    """What ``subprocess.run([sys.executable, "-c", script, ...], text=True)`` gives, with both outputs."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(script, *arguments, cwd=cwd, env=env, stdout=out, stderr=err)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(script, timeout, out.read_bytes(), err.read_bytes())
        return subprocess.CompletedProcess(script, process.exitcode, out.read_text(), err.read_text())


def start(script, *arguments, cwd=None, env=None, stdin=os.devnull, stdout=os.devnull, stderr=os.devnull):
    """Start a script, with this process's folder and environment if none are given; the streams are names of files."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    place = os.fspath(cwd or Path.cwd()), dict(os.environ if env is None else env)
    streams = [os.fspath(name) for name in (stdin, stdout, stderr)]
    process = context.Process(target=_work, args=(script, [str(argument) for argument in arguments], place, streams))
    process.start()
    return process


def _work(script, arguments, place, streams):
    """In the new process: become what ``python -c`` would be, and run the script."""
    for number, (name, mode) in enumerate(zip(streams, ("r", "w", "w"), strict=True)):
        with Path(name).open(mode) as file:
            os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cwd, environment = place
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # else it is the one of the process before
    sys.argv = ["-c", *arguments]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(script, "<string>", "exec"), vars(main))
