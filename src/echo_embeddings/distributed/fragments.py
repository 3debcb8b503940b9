"""The input of a folder job: parquet files, each in fragments of consecutive rows that one worker embeds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import pyarrow.parquet as pq

from echo_embeddings.data.columns import merged
from echo_embeddings.data.parquet import UNREADABLE, checked_schema, rechunked, unreadable
from echo_embeddings.data.reading import Bounds
from echo_embeddings.errors import InputError

from .places import Place

__all__ = ["BLOCK_ROWS", "Fragment", "InputFile", "fragments_of", "input_files", "opened"]

#: Rows that are embedded together, as ``embed_table`` does unless it is told otherwise.
BLOCK_ROWS = 1024

# Files whose footers are read at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class InputFile:
    """A parquet file of the source.

    Attributes:
        name: its path below the source.
        rows: how many it has.
        size: bytes.
        digest: SHA-256 (hex) of its footer, which says where and how long all of its parts are, and the least and
            greatest values in them.
    """

    name: str
    rows: int
    size: int
    digest: str


@dataclass(frozen=True)
class Fragment:
    """Consecutive rows of a file, which become one file of the output.

    Attributes:
        file: where they are.
        first: the first of them, counted from 0.
        rows: how many there are.
        output: the path below the target.
    """

    file: InputFile
    first: int
    rows: int
    output: str

    def tables(self, file: Any, rows: int) -> Iterator[Any]:
        """Arrow tables of ``rows`` rows each, the last of what is left, from an open ``pyarrow.parquet.ParquetFile``.

        Only the row groups that hold the rows are read.
        """
        counts = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        starts = [0, *accumulate(counts)]
        end = self.first + self.rows
        groups = [n for n, count in enumerate(counts) if starts[n] < end and starts[n] + count > self.first and count]
        if groups:
            batches = file.iter_batches(batch_size=rows, row_groups=groups)
            yield from rechunked(_within(batches, self.first - starts[groups[0]], self.rows), rows)


def input_files(source: Place, column: str, bounds: Bounds) -> list[InputFile]:
    """All parquet files of a source, checked as ``embed_table`` checks one; only their footers are read.

    Raises:
        InputError: there is none, or one cannot be used; names it.
    """
    try:
        names = list(source.files(".parquet"))
    except OSError as error:
        raise InputError(f"{source.name} cannot be listed ({error})") from error
    if not names:
        raise InputError(f"{source.name} holds no .parquet files; give a folder of them, or one of them")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        files = list(pool.map(partial(_input_file, source, column=column, bounds=bounds), names))
    if not any(file.rows for file in files):
        raise InputError(f"{source.name} has no rows: there is nothing to embed")
    return files


def fragments_of(files: list[InputFile], rows: int) -> list[Fragment]:
    """The fragments of some files, in their order.

    A file of at most ``rows`` rows is one fragment, whose output has the same name; of a larger one, the outputs are
    numbered, as in ``NAME-00000-of-00012.parquet``.

    Raises:
        InputError: two of them would have the same output.
    """
    made = [fragment for file in files for fragment in _fragments(file, rows)]
    twice = [name for name, count in Counter(fragment.output for fragment in made).items() if count > 1]
    if twice:
        raise InputError(f"two files of the input would become {twice[0]}; rename one")
    return made


@contextmanager
def opened(source: Place, fragment: Fragment) -> Iterator[Any]:
    """A fragment's file, opened by pyarrow, if it still is what it was when the job began.

    Raises:
        InputError: it is not, or cannot be read from here.
    """
    name = source.shown(fragment.file.name)
    try:
        stream = source.open(fragment.file.name)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read by a worker ({error}). Every node must find it there: use a shared folder, or an "
            "address such as s3://bucket/folder"
        ) from error
    with stream:
        if _digest(stream) != fragment.file.digest:
            raise InputError(f"{name}: the file changed while the job ran; run the same again")
        with pq.ParquetFile(stream) as file:
            yield file


def _input_file(source: Place, name: str, column: str, bounds: Bounds) -> InputFile:
    shown = source.shown(name)
    try:
        with source.open(name) as stream:
            size = stream.size()
            with pq.ParquetFile(stream) as file:
                schema = checked_schema(file, size, shown, column, bounds)
                merged(None, schema.empty_table(), shown)
                return InputFile(name, int(file.metadata.num_rows), size, _digest(stream))
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(shown, error) from error


def _digest(stream: Any) -> str:
    """SHA-256 (hex) of a parquet file's size and footer, whose length stands before the last four bytes."""
    size = stream.size()
    stream.seek(max(0, size - 8))
    length = int.from_bytes(stream.read(8)[:4], "little")
    stream.seek(max(0, size - 8 - length))
    return hashlib.sha256(str(size).encode() + stream.read(length)).hexdigest()


def _fragments(file: InputFile, rows: int) -> list[Fragment]:
    count = -(-file.rows // rows)
    if count <= 1:
        return [Fragment(file, 0, file.rows, file.name)]
    stem = file.name[: -len(".parquet")]
    return [
        Fragment(file, n * rows, min(rows, file.rows - n * rows), f"{stem}-{n:05d}-of-{count:05d}.parquet")
        for n in range(count)
    ]


def _within(batches: Iterator[Any], skip: int, rows: int) -> Iterator[Any]:
    """The rows that stand behind the first ``skip``, ``rows`` of them, of batches of any length."""
    for batch in batches:
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        wanted = batch.slice(skip, rows)
        skip, rows = 0, rows - wanted.num_rows
        yield wanted
        if not rows:
            return
