"""Folders on any file system that pyarrow reaches: list them, read files, and write files whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from echo_embeddings.data.files import locked, whole_file
from echo_embeddings.errors import InputError

__all__ = ["Place", "place_of"]

# What a folder job keeps beside its output. Names with an underscore are not read as data by those who read folders.
_UNFINISHED = "_echo_embeddings/unfinished"


@dataclass(frozen=True)
class Place:
    """A folder that every worker reaches.

    Attributes:
        name: as the user gave it.
        filesystem: pyarrow's.
        path: the folder in it.
        only: the one file of it that is meant; ``None`` for all.
    """

    name: str
    filesystem: Any
    path: str
    only: str | None = None

    @property
    def local(self) -> Path | None:
        """The folder as a path, if it is one of this machine, or mounted here."""
        return Path(self.path) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def shown(self, file: str) -> str:
        """A file's name for messages."""
        return self.name if self.only is not None else f"{self.name.rstrip('/')}/{file}"

    def files(self, suffix: str) -> dict[str, tuple[int, Any]]:
        """Size and time of change of all files with a suffix, by their paths below the folder, sorted.

        What has a part that begins with ``.`` or ``_`` is left out, as it is by those who read folders.

        Raises:
            OSError: the folder cannot be listed.
        """
        if self.only is not None:
            found = [self.filesystem.get_file_info(f"{self.path}/{self.only}")]
        else:
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True, allow_not_found=True))
        names = {info.path[len(self.path) :].lstrip("/"): info for info in found if info.type == fs.FileType.File}
        return {
            name: (info.size, info.mtime)
            for name, info in sorted(names.items())
            if name.lower().endswith(suffix) and not any(part[0] in "._" for part in name.split("/"))
        }

    def open(self, file: str) -> Any:
        """A file to read, which can be closed with ``with``.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        return self.filesystem.open_input_file(f"{self.path}/{file}")

    def read(self, file: str) -> bytes | None:
        """The bytes of a small file; ``None`` if there is none."""
        try:
            with self.open(file) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    @contextmanager
    def writing(self, file: str) -> Iterator[Any]:
        """Give a stream to write to, which becomes a file of this name at the end of the block.

        It is written under another name and renamed, so a file that is there is whole. After an error, or when the
        process dies, there is none, or what was there before.
        """
        target = f"{self.path}/{file}"
        self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        self.filesystem.create_dir(f"{self.path}/{_UNFINISHED}", recursive=True)
        if self.local is not None:
            work = Path(self.path, _UNFINISHED)
            with whole_file(Path(target), work=work) as path, pa.OSFile(str(path), "wb") as stream:
                yield stream
            return
        unfinished = f"{self.path}/{_UNFINISHED}/{secrets.token_hex(8)}"
        try:
            with self.filesystem.open_output_stream(unfinished) as stream:
                yield stream
            self.filesystem.move(unfinished, target)
        except BaseException:
            with suppress(OSError):
                self.filesystem.delete_file(unfinished)
            raise

    def write(self, file: str, content: bytes) -> None:
        """Write a small file as a whole."""
        with self.writing(file) as stream:
            stream.write(content)

    def remove(self, file: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(f"{self.path}/{file}")

    def remove_folder(self, folder: str) -> None:
        """Remove a folder with all that is in it, if it is there."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_dir(f"{self.path}/{folder}")

    def sweep(self) -> None:
        """Remove what writers that died have left."""
        self.remove_folder(_UNFINISHED)

    def locked(self) -> Any:
        """Let no other process of this machine write the folder during a ``with`` block; elsewhere there are no locks.

        Raises:
            InputError: another process does.
        """
        if self.local is None:
            return nullcontext()
        self.local.parent.mkdir(parents=True, exist_ok=True)
        return locked(self.local)


def place_of(path: str | os.PathLike[str], *, may_be_file: bool = False) -> Place:
    """The place that a path or an address means.

    Args:
        path: a local path, or an address that pyarrow knows: ``s3://bucket/folder``, ``gs://...``, ``hdfs://...``.
        may_be_file: whether it may be a file: then the place is its folder, with that one file.

    Raises:
        InputError: pyarrow knows no such file system, or there is a file where a folder is needed.
    """
    name = os.fspath(path)
    try:
        filesystem, inside = fs.FileSystem.from_uri(name) if "://" in name else (fs.LocalFileSystem(), _local(name))
        info = filesystem.get_file_info(inside)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{name} cannot be reached ({error}); give a folder, or an address such as s3://bucket/folder"
        ) from error
    if info.type != fs.FileType.File:
        return Place(name, filesystem, inside.rstrip("/") or "/")
    if not may_be_file:
        raise InputError(f"{name} is a file; give a folder")
    folder, _, file = inside.rpartition("/")
    return Place(name, filesystem, folder, file)


def _local(name: str) -> str:
    return Path(name).expanduser().absolute().as_posix()
