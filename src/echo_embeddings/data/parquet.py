"""Parquet files: a source of texts that keeps its columns' types, and the table with vectors that is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from echo_embeddings.errors import InputError
from echo_embeddings.types import Vectors

from .columns import EMBEDDING
from .formats import no_column

__all__ = ["ParquetFile", "write_parquet"]

# Rows of an output row group: some 20 MB of vectors.
_GROUP = 8192


class ParquetFile:
    """A parquet file that has a column of texts.

    Args:
        path: the file.
        column: the texts' column.

    Raises:
        InputError: it is no parquet file, has a name twice, or the column is not there or holds no texts.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                #: Rows of the whole file.
                self.rows = int(file.metadata.num_rows)
        except pa.ArrowException as error:
            raise InputError(f"{path} is not a readable parquet file ({error})") from error
        if len(set(schema.names)) < len(schema.names):
            twice = next(name for name in schema.names if schema.names.count(name) > 1)
            raise InputError(f"{path} has two columns {twice!r}; rename one")
        if column not in schema.names:
            raise no_column(str(path), column, schema.names)
        kind = schema.field(column).type
        if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
            raise InputError(f"{path}: column {column!r} holds {kind}, not texts; choose one with --column")

    def tables(self, rows: int, *, every_column: bool) -> Iterator[Any]:
        """Arrow tables of ``rows`` rows each, the last of what is left.

        Raises:
            InputError: a part of the file is damaged.
        """
        waiting: list[Any] = []
        try:
            with pq.ParquetFile(self._path) as file:
                # A batch may be shorter than asked for where a row group ends.
                for batch in file.iter_batches(batch_size=rows, columns=None if every_column else [self._column]):
                    table = pa.Table.from_batches([*waiting, batch])
                    while table.num_rows >= rows:
                        yield table.slice(0, rows)
                        table = table.slice(rows)
                    waiting = table.to_batches()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._path} cannot be read to its end ({error}); it is damaged") from error
        if waiting:
            yield pa.Table.from_batches(waiting)

    def cells(self, table: Any, first: int) -> list[tuple[str, Any]]:
        """The cells of the texts' column with their places.

        Args:
            table: one of :meth:`tables`.
            first: the number of its first row, counted from 1.

        Raises:
            InputError: a text is not UTF-8.
        """
        column = table.column(self._column)
        try:
            values = column.to_pylist()
        except UnicodeDecodeError:
            raise InputError(f"{self._path}, row {first + _not_utf8(column)}: this text is not UTF-8") from None
        return [(f"{self._path}, row {number}", value) for number, value in enumerate(values, start=first)]


def write_parquet(path: Path, schema: Any, dimension: int, pieces: Iterator[tuple[Any, Vectors]]) -> None:
    """Write rows in their order, with their vectors as a last column: a fixed-size list of float32.

    Args:
        path: the file.
        schema: of the columns beside the vectors.
        dimension: length of a vector.
        pieces: Arrow tables of that schema, each with the vectors ``[rows, dimension]`` of its rows.
    """
    vector = pa.list_(pa.float32(), dimension)
    whole = schema.append(pa.field(EMBEDDING, vector, nullable=False))
    waiting: list[Any] = []
    with pq.ParquetWriter(path, whole) as writer:
        for table, vectors in pieces:
            embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vector)
            waiting.append(pa.Table.from_arrays([*table.columns, embedding], schema=whole))
            if sum(piece.num_rows for piece in waiting) >= _GROUP:
                waiting = _written(writer, waiting)
        _written(writer, waiting)


def _written(writer: Any, waiting: Sequence[Any]) -> list[Any]:
    if waiting:
        writer.write_table(pa.concat_tables(waiting), row_group_size=_GROUP)
    return []


def _not_utf8(column: Any) -> int:
    for row, cell in enumerate(column):
        try:
            cell.as_py()
        except UnicodeDecodeError:  # noqa: PERF203 - each cell may be the bad one
            return row
    raise AssertionError("every cell is UTF-8")


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
