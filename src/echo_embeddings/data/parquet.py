"""Everything that needs pyarrow: parquet tables in, and tables with their embeddings out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from echo_embeddings.errors import InputError

from .checkpoints import Shards
from .tables import Row, Table

__all__ = ["ParquetTable", "output_schema", "write_parquet"]

# Rows of an output row group: some 20 MB of vectors.
GROUP = 8192

EMBEDDING = "embedding"


class ParquetTable(Table):
    """A ``.parquet`` file, read by record batches."""

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(path, column)
        try:
            with pq.ParquetFile(path) as file:
                self.schema = file.schema_arrow
        except pa.ArrowException as error:
            raise InputError(f"{path} is not a readable parquet file ({error})") from error
        if column not in self.schema.names:
            listed = ", ".join(self.schema.names)
            raise InputError(f"{path}: there is no column {column!r}, only {listed}; choose one with --column")
        kind = self.schema.field(column).type
        if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
            raise InputError(f"{path}: column {column!r} holds {kind}, not texts; choose one with --column")

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Rows of the texts' column alone; the others are not read."""
        number = 0
        for batch in self.batches([self.column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield f"{self.path}, row {number}", {self.column: value}

    def batches(self, columns: list[str] | None = None) -> Iterator[Any]:
        """Record batches, of all columns or some."""
        with pq.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=GROUP, columns=columns)


def output_schema(table: Table) -> Any:
    """The schema of the input's columns as parquet can hold them; found by reading all rows, so before computing.

    Raises:
        InputError: there is a column ``embedding`` already, or one that parquet cannot hold.
    """
    schema = table.schema if isinstance(table, ParquetTable) else _inferred(table)
    if EMBEDDING in schema.names:
        raise InputError(f"{table.path} has a column {EMBEDDING!r} already; rename it, or write to .npy")
    try:
        pq.write_table(schema.empty_table(), io.BytesIO())
    except pa.ArrowException as error:
        raise InputError(f"{table.path}: parquet cannot hold its columns ({error}); write to .npy") from error
    return schema


def write_parquet(path: Path, table: Table, schema: Any, shards: Shards) -> None:
    """Write the input's rows in their order, with their vectors as a fixed-size list of float32."""
    vector = pa.list_(pa.float32(), shards.dimension)
    start = 0
    with pq.ParquetWriter(path, schema.append(pa.field(EMBEDDING, vector, nullable=False))) as writer:
        for columns in _batches(table, schema):
            stop = start + columns.num_rows
            flat = pa.array(shards.read(start, stop).ravel())
            embedding = pa.FixedSizeListArray.from_arrays(flat, type=vector)
            writer.write_table(pa.Table.from_arrays([*columns.columns, embedding], schema=writer.schema))
            start = stop


def _batches(table: Table, schema: Any) -> Iterator[Any]:
    if isinstance(table, ParquetTable):
        for batch in table.batches():
            if batch.num_rows:
                yield pa.Table.from_batches([batch])
        return
    for rows in _groups(table):
        yield pa.Table.from_arrays([_column(table, rows, field.name, field.type) for field in schema], schema=schema)


def _groups(table: Table) -> Iterator[list[Row]]:
    rows = (row for _, row in table.rows())
    while group := list(islice(rows, GROUP)):
        yield group


def _inferred(table: Table) -> Any:
    """One schema for all rows: objects may lack keys, and a number may turn out to be a fraction later."""
    schema = pa.schema([])
    for rows in _groups(table):
        names = dict.fromkeys(name for row in rows for name in row)
        found = pa.schema([(name, _column(table, rows, name, None).type) for name in names])
        try:
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(f"{table.path}: a column changes its type on the way ({error}); write to .npy") from error
    return schema


def _column(table: Table, rows: list[Row], name: str, kind: Any) -> Any:
    try:
        return pa.array([row.get(name) for row in rows], type=kind)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(f"{table.path}: parquet cannot hold column {name!r} ({error}); write to .npy") from error


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
