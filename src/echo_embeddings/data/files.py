"""Write files and folders that are there whole or not at all, whenever the process dies; one writer at a time."""

from __future__ import annotations

import ctypes
import glob
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from echo_embeddings.errors import InputError

__all__ = ["current", "locked", "remove", "require_target", "whole_file", "whole_folder"]

# Linux and macOS swap two names in one step. The numbers stand in their system headers:
# the function, and AT_FDCWD (paths are relative to the working folder).
_EXCHANGE = {"linux": ("renameat2", -100), "darwin": ("renameatx_np", -2)}
_EXCHANGE_FLAG = 2  # RENAME_EXCHANGE, RENAME_SWAP

# Seconds between two looks at a lock that is waited for.
_PAUSE = 0.2


@contextmanager
def whole_file(path: Path, work: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, which becomes ``path`` at the end of the block; after an error it is removed.

    A process that is killed can leave a hidden file ``.NAME.XXXX.part`` beside ``path``; ``path`` itself is whole, or
    what it was. A link is written through: what it points to is replaced, not the link.

    Args:
        path: the file to be. Everybody may read it whom the umask lets, whatever made the content.
        work: folder for the unfinished file, on the same file system; ``None`` takes the folder of ``path``.
    """
    path = path.resolve() if path.is_symlink() else path
    unfinished = _new_file(work or path.parent, path.name)
    mode = unfinished.stat().st_mode
    try:
        yield unfinished
        _to_disk(unfinished)
        unfinished.chmod(mode)  # a library that wrote it may have made a file of its own, for its owner only
        unfinished.replace(path)
        _to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, keep: Callable[[Path], bool] | None = None, *, wait: bool = False) -> Iterator[Path]:
    """Give a folder to write to, which replaces ``path`` at the end of the block; after an error it is removed.

    Wherever the process is killed, ``path`` is the old folder or the new one, whole; what a killed process left beside
    it is removed by the next writer. On file systems that cannot swap two names in one step (NFS, Windows) there is a
    moment between two renames; a reader then finds the old folder with :func:`current`.

    Args:
        path: the folder to be. Its parents are made.
        keep: which files of the old folder, by their paths in it, go on living in the new one, unless the block writes
            a file of that path. ``None`` keeps none.
        wait: wait until another process that is writing ``path`` has finished; else that is an error.

    Raises:
        InputError: another process is writing ``path``.
    """
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=wait):
        _settle(path)
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        unfinished = work / path.name
        try:
            unfinished.mkdir()
            yield unfinished
            if keep is not None and path.is_dir():
                _carry_over(path, unfinished, keep)
            _publish(unfinished)
            _put_in_place(unfinished, path)
        finally:
            remove(work)


def current(path: Path) -> Path:
    """The folder to read: ``path``, or the old one while a writer has moved it aside (see :func:`whole_folder`)."""
    aside = _aside(path)
    return aside if not path.exists() and aside.is_dir() else path


@contextmanager
def locked(path: Path, *, wait: bool = False, inside: bool = False) -> Iterator[None]:
    """Let no other process write ``path`` during the block. The lock ends with the process, however that ends.

    Args:
        path: a file or folder, which need not exist; its folder must. The lock is ``.NAME.lock`` beside it.
        wait: wait until the other process has finished; else its lock is an error.
        inside: put the lock into the folder ``path``, which exists and is never replaced: nobody may be allowed to
            write beside it.

    Raises:
        InputError: another process holds the lock; the message says which.
    """
    lock = path / ".lock" if inside else path.parent / f".{path.name}.lock"
    while (descriptor := _lock(lock, path)) is None:
        if not wait:
            raise InputError(
                f"{path} is being written by {_holder(lock)}; wait until it has finished, or choose another output"
            )
        time.sleep(_PAUSE)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())
        yield
    finally:
        with suppress(OSError):
            lock.unlink(missing_ok=True)  # while it is held: whoever has opened it sees that it is no longer there
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def require_target(source: Path | None, target: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """Check an output file before any work is done.

    Args:
        source: the input file, which must not be written over; ``None`` if the input is no file.
        target: the output file.
        suffixes: those that it may have, such as ``(".parquet", ".npy")``.
        overwrite: whether it may exist already.

    Raises:
        InputError: it has another suffix, its folder does not exist, it is a folder or a device, it is the input, or it
            exists already.
    """
    known = " or ".join(suffixes)
    if not target.name.lower().endswith(suffixes):
        raise InputError(f"{target}: the suffix {target.suffix.lower()!r} is unknown; write to {known}")
    if target.is_dir():
        raise InputError(f"{target} is a folder; give a {known} file")
    if target.exists() and not target.is_file():
        raise InputError(f"{target} is no regular file; choose another output")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    if source is not None and target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the input; choose another output")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists; add --restart to compute it anew, or choose another output")


def _lock(lock: Path, path: Path) -> int | None:
    """Open and lock a file; ``None`` if another process (or another call of this one) holds it.

    An error names ``path``, which the user knows.
    """
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        try:
            _lock_descriptor(descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks: better to go on alone than not at all
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)  # its holder removed the file between the two calls


def _lock_descriptor(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        # A byte far behind the content, so that others can read who holds the lock.
        os.lseek(descriptor, 2**20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def _new_file(folder: Path, name: str) -> Path:
    """Make an empty file with the mode of the umask. ``tempfile`` makes files that only their owner can read.

    An error names the file that is to be, which the user knows.
    """
    while True:
        path = folder / f".{name}.{secrets.token_hex(4)}.part"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder / name)) from error
        return path


def _settle(path: Path) -> None:
    """Put back an old folder that a killed writer moved aside, and remove what killed writers left."""
    aside = _aside(path)
    if aside.is_dir():
        if path.exists():
            remove(aside)
        else:
            aside.rename(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        remove(left)


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _carry_over(old: Path, new: Path, keep: Callable[[Path], bool]) -> None:
    for file in old.rglob("*"):
        inner = file.relative_to(old)
        target = new / inner
        if (file.is_dir() and not file.is_symlink()) or target.exists() or target.is_symlink() or not keep(inner):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(file, target, follow_symlinks=False)


def _publish(folder: Path) -> None:
    """Bring what is in the folder to the disk, and let everybody read it whom the umask lets."""
    probe = _new_file(folder, "mode")
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_symlink():
            continue
        if path.is_file():
            if path.stat().st_nlink == 1:  # not one that was carried over
                path.chmod(mode)
            _to_disk(path)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            _to_disk(path)


def _put_in_place(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        path.rename(_aside(path))
        new.rename(path)
        remove(_aside(path))
    _to_disk(path.parent)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step; false where the system or the file system cannot."""
    found = _system_exchange()
    if found is None:
        return False
    function, here = found
    sys.audit("echo_embeddings.exchange", str(a), str(b))
    return bool(function(here, os.fsencode(a), here, os.fsencode(b), ctypes.c_uint(_EXCHANGE_FLAG)) == 0)


@cache
def _system_exchange() -> tuple[Any, int] | None:
    if sys.platform not in _EXCHANGE:
        return None
    name, here = _EXCHANGE[sys.platform]
    function = getattr(ctypes.CDLL(None), name, None)
    return None if function is None else (function, here)


def _to_disk(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    if path.is_dir() and sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
