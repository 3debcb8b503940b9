"""Kill a process between any two of its file operations, and look at what it leaves.

A script runs in a process of its own (``tests.processes``). An audit hook counts its operations on files below a folder
(open to write, rename, exchange, remove, make a folder, link, change the mode), and the process sends itself a signal
before the one asked for. So every moment between two operations is tried, one process each.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import processes

ROOT = Path(__file__).parent.parent

_HOOK = """
import os, signal, sys
_root, _at, _signal = {root!r}, {at}, {signal}
_count = 0
_names = {{"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate",
          "shutil.rmtree", "shutil.copyfile", "shutil.move", "echo_embeddings.exchange"}}

def _writes(event, arguments):
    if event != "open":
        return event in _names
    path, mode, flags = arguments
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))

def _hook(event, arguments):
    global _count
    if (event == "open" or event in _names) and _writes(event, arguments):
        paths = [os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))]
        if any(_root in path for path in paths):
            _count += 1
            if _count == _at:
                os.kill(os.getpid(), _signal)

sys.addaudithook(_hook)
"""

# What a process that is killed now would leave is what is on the disk now; so one process can show all moments.
_COPIES = """
import shutil
_into, _copying, _last = {into!r}, False, None

def _copy(event, arguments):
    global _copying, _last
    if _copying or event not in _names | {{"open"}} or not _writes(event, arguments):
        return
    if not any(_root in os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))):
        return
    _copying = True
    found = [os.path.join(place, name) for place, folders, files in os.walk(_root) for name in folders + files]
    state = sorted((path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in found)
    if state != _last and os.path.isdir(_root):
        shutil.copytree(_root, os.path.join(_into, f"{{len(os.listdir(_into)):04}}"))
    _last, _copying = state, False

sys.addaudithook(_copy)
"""


def run(script: str, root: Path, at: int = 0, kill: signal.Signals = signal.SIGKILL) -> subprocess.CompletedProcess:
    """Run a script, killed before its operation number ``at`` (from 1) on files below ``root``; 0 kills never."""
    hook = _HOOK.format(root=str(root), at=at, signal=int(kill))
    end = "\nprint('operations:', _count, file=sys.stderr)\n"
    return processes.run(hook + script + end, cwd=ROOT)


def operations(script: str, root: Path) -> int:
    """Run a script to its end, and count its operations on files below ``root``."""
    done = run(script, root)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rsplit("operations:", 1)[1])


def at_each(
    script: str, root: Path, kill: signal.Signals = signal.SIGKILL, first: int = 1, every: int = 1
) -> Iterator[int]:
    """Run a script once for each of its operations, killed before it; yields the operation's number afterwards.

    The caller puts ``root`` into the state before, then looks at it each time. The last run ends by itself. A quick
    test takes only every so many operations, from ``first`` on.
    """
    at = first
    while True:
        done = run(script, root, at, kill)
        assert done.returncode in (0, -kill, 1, 130), done.stderr
        yield at
        if done.returncode == 0:
            return
        at += every


def moments(script: str, root: Path, into: Path) -> list[Path]:
    """Run a script to its end, and copy ``root`` before each of its operations on it: what a kill would leave then.

    It shows every moment for the price of one process. What stands in buffers is lost in a kill, and is not copied.
    """
    into.mkdir()
    hook = _HOOK.format(root=str(root), at=0, signal=0) + _COPIES.format(into=str(into))
    done = subprocess.run(
        [sys.executable, "-c", hook + script], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return sorted(into.iterdir())
