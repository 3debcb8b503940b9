"""Parquet files: a source of texts that keeps its columns' types, and the table with vectors that is written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from echo_embeddings.errors import InputError
from echo_embeddings.types import DTYPES, Vectors

from .columns import EMBEDDING, first_unfit, unfit
from .formats import Placed, no_column
from .reading import Bounds, file_digest

__all__ = [
    "UNREADABLE",
    "ParquetFile",
    "checked_schema",
    "rechunked",
    "unreadable",
    "vectors_column",
    "write_parquet",
]

#: What pyarrow raises at a file, or a value, that it cannot read.
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError, LookupError)

# Rows of an output row group: some 20 MB of vectors.
_GROUP = 8192


class ParquetFile:
    """A parquet file that has a column of texts.

    Args:
        path: the file.
        column: the texts' column.
        bounds: how large it may become when it is read, and how long a text may be.

    Raises:
        InputError: it is no parquet file, has a name twice, becomes too large, or the column is not there or holds no
            texts.
    """

    def __init__(self, path: Path, column: str, bounds: Bounds) -> None:
        self._path, self._column, self._bounds = path, column, bounds
        self._read: str | None = None
        try:
            with pq.ParquetFile(path) as file:
                self._schema: Any = checked_schema(file, path.stat().st_size, str(path), column, bounds)
                #: Rows of the whole file.
                self.rows = int(file.metadata.num_rows)
        except InputError:
            raise
        except UNREADABLE as error:
            raise unreadable(str(path), error) from error

    def tables(self, rows: int, *, every_column: bool) -> Iterator[Any]:
        """Arrow tables of ``rows`` rows each, the last of what is left.

        Raises:
            InputError: a part of the file is damaged.
        """
        try:
            self._read = file_digest(self._path)
            with pq.ParquetFile(self._path) as file:
                self._require_schema(file)
                columns = None if every_column else [self._column]
                yield from rechunked(file.iter_batches(batch_size=rows, columns=columns), rows)
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(f"{self._path} cannot be read to its end ({error}); it is damaged") from error

    def _require_schema(self, file: Any) -> None:
        if not file.schema_arrow.equals(self._schema):
            raise InputError(f"{self._path}: the file was replaced by one with other columns; run the same again")

    def is_unchanged(self) -> bool:
        """Whether the file is the one that :meth:`tables` read."""
        try:
            return self._read is None or file_digest(self._path) == self._read
        except OSError:
            return False

    def cells(self, table: Any, first: int) -> list[tuple[str, Any]]:
        """The cells of the texts' column with their places.

        Args:
            table: one of :meth:`tables`.
            first: the number of its first row, counted from 1.

        Raises:
            InputError: a text is not UTF-8, or is too long.
        """
        column = table.column(self._column)
        try:
            values = column.to_pylist()
        except UnicodeDecodeError:
            raise InputError(f"{self._path}, row {first + _unreadable(column)}: this text is not UTF-8") from None
        placed = [(f"{self._path}, row {number}", value) for number, value in enumerate(values, start=first)]
        for place, value in placed:
            if isinstance(value, str) and len(value) > self._bounds.row_bytes:
                raise self._bounds.too_long(place, "this text")
        return placed

    def as_rows(self, table: Any, first: int) -> list[Placed]:
        """All columns of one of :meth:`tables` as rows of Python's own types, with their places.

        Raises:
            InputError: Python cannot hold a value, such as a text that is not UTF-8 or a date after the year 9999.
        """
        values = {}
        for name in table.column_names:
            column = table.column(name)
            try:
                values[name] = column.to_pylist()
            except UNREADABLE as error:
                place = f"{self._path}, row {first + _unreadable(column)}"
                raise InputError(f"{place}: the value in column {name!r} cannot be read ({error})") from error
        return [
            (f"{self._path}, row {first + row}", {name: cells[row] for name, cells in values.items()})
            for row in range(table.num_rows)
        ]


def checked_schema(file: Any, size: int, name: str, column: str, bounds: Bounds) -> Any:
    """The Arrow schema of a parquet file that has a column of texts.

    Args:
        file: an open ``pyarrow.parquet.ParquetFile``.
        size: its bytes.
        name: what it is called in messages.
        column: the texts' column.
        bounds: how large it may become when it is read.

    Raises:
        InputError: it has a name twice, becomes too large, or the column is not there or holds no texts.
    """
    schema, metadata = file.schema_arrow, file.metadata
    names = schema.names
    becomes = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if becomes > (limit := bounds.decompressed(size)):
        raise bounds.too_large(name, limit)
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise InputError(f"{name} has two columns {twice!r}; rename one")
    if column not in names:
        raise no_column(name, column, names)
    kind = schema.field(column).type
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise InputError(f"{name}: column {column!r} holds {kind}, not texts; choose one with --column")
    return schema


def unreadable(name: str, error: Exception) -> InputError:
    """The error for a file that is none of parquet's."""
    return InputError(f"{name} is not a readable parquet file ({error})")


def rechunked(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Arrow tables of ``rows`` rows each, the last of what is left, from batches of any length."""
    waiting: list[Any] = []
    for batch in batches:  # one may be shorter than asked for where a row group ends
        table = pa.Table.from_batches([*waiting, batch])
        while table.num_rows >= rows:
            yield table.slice(0, rows)
            table = table.slice(rows)
        waiting = table.to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)


def write_parquet(
    path: Any,
    schema: Any,
    dimension: int,
    pieces: Iterator[tuple[Any, Vectors]],
    name: str = "the input",
    dtype: np.dtype[Any] = DTYPES["float32"],
    about: Callable[[], dict[str, str]] = dict,
) -> None:
    """Write rows in their order, with their vectors as a last column: a list of a fixed size.

    Args:
        path: the file, or a stream that is open for writing.
        schema: of the columns beside the vectors.
        dimension: how many numbers a vector has.
        pieces: Arrow tables of that schema, each with the vectors ``[rows, dimension]`` of its rows.
        name: what the rows come from, for messages.
        dtype: of the vectors.
        about: gives, after the last piece, what the file says of itself.

    Raises:
        InputError: parquet cannot hold a value; names row and column.
    """
    whole = schema.append(_vector_field(EMBEDDING, dimension, dtype))
    waiting: list[Any] = []
    written = 0
    with pq.ParquetWriter(path, whole) as writer:
        for table, vectors in pieces:
            _, embedding = vectors_column(vectors)
            waiting.append(pa.Table.from_arrays([*table.columns, embedding], schema=whole))
            if sum(piece.num_rows for piece in waiting) >= _GROUP:
                written += _write(writer, waiting, written, name)
                waiting = []
        _write(writer, waiting, written, name)
        if said := about():
            writer.add_key_value_metadata(said)


def vectors_column(vectors: Vectors, name: str = EMBEDDING) -> tuple[Any, Any]:
    """Vectors ``[rows, dimension]`` as a field and an Arrow array: lists of a fixed size, of their dtype."""
    field = _vector_field(name, vectors.shape[1], vectors.dtype)
    return field, pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=field.type)


def _vector_field(name: str, dimension: int, dtype: np.dtype[Any]) -> Any:
    return pa.field(name, pa.list_(pa.from_numpy_dtype(dtype), dimension), nullable=False)


def _write(writer: Any, tables: Sequence[Any], written: int, name: str) -> int:
    """Write tables as one row group, below so many rows; returns how many these are."""
    if not tables:
        return 0
    table = pa.concat_tables(tables)
    try:
        writer.write_table(table, row_group_size=_GROUP)
    except pa.ArrowException as error:  # a value that its type holds, and parquet does not, such as a date far away
        for column in table.column_names:
            row = first_unfit(len(table), partial(_try, table.select([column])))
            if row is not None:
                raise InputError(f"{name}, row {written + row + 1}: {unfit(column, error)}") from error
        raise InputError(f"{name}, rows {written + 1} to {written + len(table)}: {error}") from error
    return int(table.num_rows)


def _try(table: Any, rows: int) -> None:
    pq.write_table(table.slice(0, rows), io.BytesIO())


def _unreadable(column: Any) -> int:
    for row, cell in enumerate(column):
        try:
            cell.as_py()
        except UNREADABLE:  # noqa: PERF203 - each cell may be the bad one
            return row
    raise AssertionError("every cell can be read")


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
