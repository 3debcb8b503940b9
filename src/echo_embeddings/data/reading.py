"""The bytes of an input as lines: opened without waiting for ever, read within bounds, and compared with a later state.

Knows no formats. A file, a named pipe and a stream are read alike.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_embeddings.errors import InputError
from echo_embeddings.types import require_whole

__all__ = ["BINARY", "Bounds", "Input", "Lines", "decoded", "file_digest", "is_pipe"]

#: Lines with their ends and their numbers, counted from 1.
Lines = Iterator[tuple[int, str]]

#: What is said about a stream of text.
BINARY = "a stream is read in binary mode: open the file with 'rb', or give sys.stdin.buffer"

_BUFFER = 2**18

# Opens a named pipe at once, whether a program has opened it to write or not. Windows has no such files.
_NO_WAITING = os.O_RDONLY
if sys.platform != "win32":
    _NO_WAITING |= os.O_NONBLOCK

# Seconds that a named pipe without a writer is waited for.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Bounds:
    """How much an input may ask for: an endless line, or a small file that grows without end, must not take a machine.

    Attributes:
        row_bytes: the most bytes of a row, and so of a line; of a text in a parquet file the most characters.
        decompressed_bytes: the most bytes that a compressed file may become; ``None`` is 250 times its size, or 1 MiB
            if that is more. Text becomes 3 to 30 times as large, nothing over 1,030 times.
    """

    row_bytes: int = 64 * 2**20
    decompressed_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("row_bytes", "decompressed_bytes"):
            if (value := getattr(self, name)) is not None:
                require_whole(f"max_{name}", value, InputError)

    def decompressed(self, size: int) -> int:
        """The most bytes that so many compressed bytes may become."""
        return max(2**20, 250 * size) if self.decompressed_bytes is None else self.decompressed_bytes

    def too_long(self, place: str, what: str) -> InputError:
        """The error for a row, or a line, that is too long."""
        return InputError(
            f"{place}: {what} is longer than {self.row_bytes:,} bytes, the most that a row may have; mend it, or raise "
            "max_row_bytes (--max-row-mb)"
        )

    def too_large(self, place: str, limit: int) -> InputError:
        """The error for a file that becomes too large."""
        return InputError(
            f"{place}: the file becomes larger than {limit:,} bytes when it is decompressed, far more than texts do; "
            "if that is right, raise max_decompressed_bytes (--max-decompressed-mb)"
        )


class Input:
    """A file, a named pipe or a stream of lines.

    Args:
        source: a path, decompressed if its name ends in ``.gz``; or a stream in binary mode, which is read once.
        name: what it is called in messages.
        bounds: how much it may ask for.
    """

    def __init__(self, source: Any, name: str, bounds: Bounds | None = None) -> None:
        self._source, self._name, self._bounds = source, name, bounds or Bounds()
        self._read: str | None = None
        self._start = _position(source)

    def lines(self) -> Lines:
        """Numbered lines, from the beginning of a file, or of what is left of a stream.

        Raises:
            InputError: a line is not UTF-8 or too long, the file is damaged or becomes too large, or nobody writes into
                a named pipe.
        """
        with _opened(self._source, self._name) as raw:
            file: Any = io.BufferedReader(raw, _BUFFER)
            if not isinstance(self._source, Path) or self._source.suffix.lower() != ".gz":
                yield from decoded(file, self._name, self._bounds)
            else:
                packed = gzip.GzipFile(fileobj=file, mode="rb")
                unpacked: Any = io.BufferedReader(packed, _BUFFER)
                yield from decoded(unpacked, self._name, self._bounds, lambda: raw.count)
                while file.read(_BUFFER):  # whatever stands behind the compressed data
                    pass
            self._read = raw.digest()

    def is_unchanged(self) -> bool:
        """Whether a file still holds what :meth:`lines` read to its end; true for what cannot be read again."""
        if self._read is None or self._start is None:
            return True
        try:
            if isinstance(self._source, Path):
                return file_digest(self._source) == self._read
            return _digest_from(self._source.fileno(), self._start) == self._read
        except OSError:
            return False


def decoded(file: Any, name: str, bounds: Bounds | None = None, compressed: Callable[[], int] | None = None) -> Lines:
    """Numbered lines of a binary file, split at newlines only. Each is decoded by itself, so a bad one can be named.

    Args:
        file: a buffered file or stream, opened in binary mode.
        name: what it is called in messages.
        bounds: how much it may ask for.
        compressed: the compressed bytes read so far, where it is decompressed.

    Raises:
        InputError: a line is not UTF-8 or too long, or the data is damaged or becomes too large.
    """
    bounds = bounds or Bounds()
    number, size, limit = 0, 0, 0
    try:
        while line := file.readline(bounds.row_bytes + 1):
            number += 1
            if len(line) > bounds.row_bytes:
                raise bounds.too_long(f"{name}:{number}", "this line")
            size += len(line)
            if compressed is not None and size > limit and size > (limit := bounds.decompressed(compressed())):
                raise bounds.too_large(f"{name}:{number}", limit)
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}:{number}: this line is not UTF-8 ({error.reason}); convert the file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}:{number + 1}: the gzip data is damaged ({error}); compress the file again") from error
    except OSError as error:
        raise InputError(f"{name}:{number + 1}: the input cannot be read ({error.strerror or error})") from error


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    sha = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while content := file.read(_BUFFER):
            sha.update(content)
    return sha.hexdigest()


def is_pipe(path: Path) -> bool:
    """Whether a path is a named pipe, or a pipe of the shell's (``<(command)``): it can be read once."""
    return stat.S_ISFIFO(path.stat().st_mode)


class _Counted(io.RawIOBase):
    """What a function reads, counted and digested."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._function, self._sha = read, hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._function(len(buffer))
        if isinstance(content, str):
            raise TypeError(BINARY)
        buffer[: len(content)] = content
        self._sha.update(content)
        self.count += len(content)
        return len(content)

    def digest(self) -> str:
        return self._sha.hexdigest()


@contextmanager
def _opened(source: Any, name: str) -> Iterator[_Counted]:
    if not isinstance(source, Path):
        yield _Counted(getattr(source, "read1", source.read))  # read1 does not wait for a full buffer
    elif not is_pipe(source):
        with source.open("rb", buffering=0) as file:
            yield _Counted(file.read)
    else:
        with _pipe(source, name) as read:
            yield _Counted(read)


@contextmanager
def _pipe(path: Path, name: str) -> Iterator[Callable[[int], bytes]]:
    """Open a named pipe, which would else wait without a word for a program that writes into it."""
    descriptor = os.open(path, _NO_WAITING)
    try:
        first, deadline = b"", time.monotonic() + _PATIENCE
        while not first:
            try:
                first = os.read(descriptor, 1)
            except BlockingIOError:  # somebody has opened it to write, and has not written yet
                break
            if not first and time.monotonic() > deadline:
                raise InputError(
                    f"{name} is a named pipe, and no program has written into it for {_PATIENCE:.0f} s; start that "
                    "program first, or give a file"
                )
            time.sleep(0 if first else 0.05)
        if sys.platform != "win32":
            os.set_blocking(descriptor, True)
        waiting = [first] if first else []
        yield lambda size: waiting.pop() if waiting else os.read(descriptor, size)
    finally:
        os.close(descriptor)


def _position(source: Any) -> int | None:
    """Where a file or a stream begins to be read; ``None`` if it cannot be read again."""
    if isinstance(source, Path):
        return 0 if source.is_file() else None
    if not isinstance(getattr(source, "raw", source), io.FileIO):
        return None  # such as a stream that decompresses: its descriptor is of something else
    try:
        return int(source.tell()) if stat.S_ISREG(os.fstat(source.fileno()).st_mode) else None
    except (OSError, ValueError):
        return None


def _digest_from(descriptor: int, start: int) -> str:
    os.lseek(descriptor, start, os.SEEK_SET)  # it was read to its end, and is again
    sha = hashlib.sha256()
    while content := os.read(descriptor, _BUFFER):
        sha.update(content)
    return sha.hexdigest()
