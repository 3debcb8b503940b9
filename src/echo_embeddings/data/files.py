"""Write files and folders that are there whole or not at all, whenever the process dies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echo_embeddings.errors import InputError

__all__ = ["remove", "require_target", "whole_file", "whole_folder"]


@contextmanager
def whole_file(path: Path, work: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, which becomes ``path`` at the end of the block; after an error it is removed.

    Args:
        path: the file to be.
        work: folder for the unfinished file, on the same file system; ``None`` takes the folder of ``path``.
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
    """Give a folder to write to, which replaces ``path`` at the end of the block; after an error it is removed."""
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


def require_target(source: Path | None, target: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """Check an output file before any work is done.

    Args:
        source: the input file, which must not be written over; ``None`` if the input is no file.
        target: the output file.
        suffixes: those that it may have, such as ``(".parquet", ".npy")``.
        overwrite: whether it may exist already.

    Raises:
        InputError: it has another suffix, its folder does not exist, it is the input, or it exists already.
    """
    known = " or ".join(suffixes)
    if not target.name.lower().endswith(suffixes):
        raise InputError(f"{target}: the suffix {target.suffix.lower()!r} is unknown; write to {known}")
    if target.is_dir():
        raise InputError(f"{target} is a folder; give a {known} file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    if source is not None and target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the input; choose another output")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists; add --restart to compute it anew, or choose another output")


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
