"""Files and folders that are there whole or not at all, whenever the process dies."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echo_embeddings.errors import InputError

__all__ = ["digest", "require_target", "whole_file", "whole_folder"]


@contextmanager
def whole_file(path: Path, work: Path | None = None) -> Iterator[Path]:
    """A path to write to; at the end of the block it becomes ``path``, after an error it is removed.

    Args:
        path: where the file shall be.
        work: folder for the unfinished file, on the same file system; ``None`` takes that of ``path``.
    """
    handle, name = tempfile.mkstemp(dir=work or path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        _to_disk(unfinished)
        unfinished.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; at the end of the block it takes the place of ``path``, after an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as work:
        unfinished = Path(work) / "new"
        unfinished.mkdir()
        yield unfinished
        if path.exists():
            path.rename(Path(work) / "old")
        unfinished.rename(path)


def remove(folder: Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def require_target(source: Path, target: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """Say what is wrong with a command's output before any work is done.

    Raises:
        InputError: it has another suffix, no folder to be in, is the input, or exists and shall not be overwritten.
    """
    known = " or ".join(suffixes)
    if not target.name.lower().endswith(suffixes):
        raise InputError(f"{target}: the suffix {target.suffix.lower()!r} is unknown; write to {known}")
    if target.is_dir():
        raise InputError(f"{target} is a folder; give a {known} file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the input; choose another output")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists; add --restart to compute it anew, or choose another output")


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
