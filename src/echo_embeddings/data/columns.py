"""Rows as columns that parquet can hold: Arrow tables of one checkpoint's rows, and one schema for all of them.

A type is inferred from each checkpoint's rows; what later rows show may widen it (whole numbers become fractions, an
object gets one more key), but not contradict it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from echo_embeddings.errors import InputError

from .formats import Placed

__all__ = [
    "EMBEDDING",
    "Columns",
    "as_bytes",
    "digest",
    "first_unfit",
    "fitted",
    "from_bytes",
    "from_rows",
    "merged",
    "unfit",
]

#: The column of vectors in the output.
EMBEDDING = "embedding"

_UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
_ADVICE = "mend the row, leave the column out, or write to .npy, which keeps the vectors alone"
_DEEPEST = 63
_WHOLE = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


class Columns:
    """The columns of a job, checkpoint by checkpoint.

    Args:
        name: what the input is called in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._added = self._fitted = 0
        #: Of all rows so far.
        self.schema: Any = None

    def add(self, table: Any, places: Sequence[str]) -> str:
        """Take the columns of the rows that follow.

        Args:
            table: the rows.
            places: the place of each for messages, such as ``texts.jsonl:17``.

        Returns:
            Their :func:`digest`.

        Raises:
            InputError: they do not go with the rows before, or with parquet; names the first row and the column.
        """
        where = f"{self._name}, rows {self._added + 1} to {self._added + table.num_rows}"
        try:
            schema = merged(self.schema, table, where)
        except InputError as error:
            row = first_unfit(table.num_rows, lambda rows: merged(self.schema, _inferred(table.slice(0, rows)), where))
            if row is None or EMBEDDING in table.schema.names:  # the column as a whole
                raise
            raise InputError(f"{error}. The first such row is {places[row]}") from error
        self.schema, self._added = schema, self._added + table.num_rows
        return digest(table)

    def fitted(self, content: bytes) -> Any:
        """A checkpoint's columns, saved by :func:`as_bytes`, as a table of the schema of all rows.

        Raises:
            InputError: a value cannot be held by the type that later rows gave its column; names row and column.
        """
        table = from_bytes(content)
        try:
            made = fitted(table, self.schema, self._name)
        except InputError as error:
            row = first_unfit(table.num_rows, lambda rows: fitted(table.slice(0, rows), self.schema, self._name)) or 0
            raise InputError(f"{error}. The first such row is row {self._fitted + row + 1}") from error
        self._fitted += table.num_rows
        return made


def from_rows(placed: Sequence[Placed]) -> Any:
    """An Arrow table of rows, with inferred types; a key that a row lacks is null there.

    Raises:
        InputError: a value cannot be held by parquet, or is of another type than those above it; names row and column.
    """
    columns = {}
    for name, first in _names(placed).items():
        _check_name(name, first)
        values = [row.get(name) for _, row in placed]
        try:
            columns[name] = pa.array(values)
        except _UNFIT as error:
            row = first_unfit(len(values), partial(_array, values)) or 0
            place = placed[row][0]
            raise InputError(f"{place}: {unfit(name, error)}") from error
    return pa.table(columns)


def merged(schema: Any, table: Any, where: str) -> Any:
    """One schema for the rows so far and those of one more checkpoint.

    Args:
        schema: of the rows so far; ``None`` if there are none.
        table: the rows that follow.
        where: their place for messages, such as ``texts.jsonl, rows 1025 to 2048``.

    Raises:
        InputError: a column changes its type, is called ``embedding``, or has a type that parquet lacks.
    """
    if EMBEDDING in table.schema.names:
        raise InputError(f"{where}: there is a column {EMBEDDING!r} already; rename it, or write to .npy")
    if schema is not None and schema.equals(table.schema):
        return schema
    for field in table.schema:
        before = pa.schema([] if schema is None or field.name not in schema.names else [schema.field(field.name)])
        try:
            both = pa.unify_schemas([before, pa.schema([field])], promote_options="permissive")
            _check_depth(field.type)
            pq.write_table(both.empty_table(), io.BytesIO())
        except _UNFIT as error:
            raise InputError(f"{where}: {unfit(field.name, error)}") from error
    return table.schema if schema is None else pa.unify_schemas([schema, table.schema], promote_options="permissive")


def fitted(table: Any, schema: Any, where: str) -> Any:
    """A checkpoint's table with the columns and types that all rows together have.

    Raises:
        InputError: a value cannot be held by the type that later rows gave its column.
    """
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name in table.schema.names and table.schema.field(field.name).type == field.type:
            columns.append(table.column(field.name))
            continue
        values = table.column(field.name).to_pylist() if field.name in table.schema.names else [None] * table.num_rows
        try:
            columns.append(pa.array(values, type=field.type))
        except _UNFIT as error:
            raise InputError(f"{where}: {unfit(field.name, error)}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def digest(table: Any) -> str:
    """SHA-256 (hex) of the values of a table, however its memory is laid out."""
    sha = hashlib.sha256()
    for field in table.schema:
        sha.update(f"{field.name!r} {field.type}".encode(errors="surrogatepass"))
        _add(sha, _one_array(table.column(field.name)))
    return sha.hexdigest()


def as_bytes(table: Any) -> bytes:
    """A table in Arrow's stream format, which keeps every type."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(content: bytes) -> Any:
    """The table that :func:`as_bytes` wrote."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


def _names(placed: Sequence[Placed]) -> dict[Any, str]:
    """The names of all columns, each with the place of the first row that has it."""
    first: dict[Any, str] = {}
    for place, row in placed:
        for name in row:
            first.setdefault(name, place)
    return first


def _check_name(name: Any, place: str) -> None:
    try:
        name.encode()
    except (AttributeError, UnicodeError) as error:
        raise InputError(
            f"{place}: parquet cannot hold a column with the name {name!r} ({error}); {_ADVICE}"
        ) from error


def _check_depth(kind: Any) -> None:
    """Arrow's stream format, in which checkpoints hold columns, takes no deeper types."""
    depth, level = 0, [kind]
    while level := [one.field(number).type for one in level for number in range(one.num_fields)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")


def unfit(name: str, error: Exception) -> str:
    """What is said about a column that parquet cannot hold, in one line."""
    reason = " ".join(str(error).split())
    reason = reason if len(reason) <= 200 else f"{reason[:200]} ..."
    return f"parquet cannot hold column {name!r} ({reason}); {_ADVICE}"


def _inferred(table: Any) -> Any:
    """A table whose types are inferred anew, as those of its rows alone."""
    return pa.table({name: pa.array(table.column(name).to_pylist()) for name in table.schema.names})


def first_unfit(rows: int, build: Callable[[int], object]) -> int | None:
    """The first row that cannot stand below those above it, found by halving.

    Args:
        rows: how many there are.
        build: is called with a number of rows, and raises if so many cannot stand together.

    Returns:
        Its index; ``None`` if all of them can.
    """

    def fails(count: int) -> bool:
        try:
            build(count)
        except _UNFIT:
            return True
        return False

    low, high = 0, rows - 1
    if not fails(rows):
        return None
    while low < high:
        middle = (low + high) // 2
        if fails(middle + 1):
            high = middle
        else:
            low = middle + 1
    return low


def _array(values: list[Any], rows: int) -> Any:
    return pa.array(values[:rows])


def _one_array(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):  # each piece may have a dictionary of its own
        column = pa.chunked_array([piece.dictionary_decode() for piece in column.chunks], column.type.value_type)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _add(sha: Any, array: Any) -> None:
    kind = array.type
    sha.update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if isinstance(kind, pa.BaseExtensionType):
        _add(sha, array.storage)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        sha.update(pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).tobytes())
        _add(sha, array.flatten())
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            _add(sha, part)
    elif pa.types.is_primitive(kind) and kind.bit_width in _WHOLE:
        sha.update(array.view(_WHOLE[kind.bit_width]).fill_null(0).to_numpy(zero_copy_only=False).tobytes())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        sha.update(repr(array.cast(pa.large_binary()).to_pylist()).encode())  # it may not be UTF-8
    else:
        sha.update(repr(array.to_pylist()).encode(errors="surrogatepass"))
