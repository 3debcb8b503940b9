"""Tables of texts: rows with a column of texts, read once, in order, and never all in memory.

A table is a file (txt, jsonl, csv, parquet), a stream such as stdin, or an iterable of dictionaries or strings.
"""

from __future__ import annotations

import io
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from echo_embeddings.errors import InputError
from echo_embeddings.extras import require

from .formats import FORMATS, SUFFIXES, Placed, Row, no_column
from .reading import BINARY, Bounds, Input, is_pipe

if TYPE_CHECKING:
    from .parquet import ParquetFile

__all__ = ["Chunk", "Row", "Source", "Table", "checked", "open_table", "path_of"]

#: A path, ``"-"`` for stdin, a binary stream, or an iterable of dictionaries or strings.
Source = str | os.PathLike[str] | BinaryIO | Iterable[Mapping[str, Any]] | Iterable[str]


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Attributes:
        texts: the cells of the texts' column.
        places: where each row stands, for messages.
        columns: all columns as an Arrow table; ``None`` where they were not asked for.
        documents: where the texts are passages, the texts that they are from, in order, each with the first and
            last-plus-one character of its passages; ``None`` elsewhere.
    """

    texts: list[str]
    places: list[str]
    columns: Any = None
    documents: list[tuple[str, list[tuple[int, int]]]] | None = None


class Table(ABC):
    """Rows with a column of texts. A stream can be read once, a file as often as wanted.

    Args:
        name: what it is called in messages.
        column: the texts' column.
        total: the number of rows, where it is known without reading them.
    """

    def __init__(self, name: str, column: str, total: int | None = None) -> None:
        self.name, self.column, self.total = name, column, total

    @abstractmethod
    def rows(self) -> Iterator[Placed]:
        """Each row with its place for messages."""

    @abstractmethod
    def chunks(self, size: int, *, columns: bool) -> Iterator[Chunk]:
        """Chunks of ``size`` rows, the last of what is left.

        Args:
            size: rows a chunk.
            columns: read the other columns as well, as Arrow tables (needs pyarrow).

        Raises:
            InputError: a row has no text, or cannot be held by parquet; names its place.
        """

    def is_unchanged(self) -> bool:
        """Whether a file still holds what was read to its end; true for what cannot be read again."""
        return True

    @abstractmethod
    def texts(self) -> Iterator[str]:
        """The texts in order.

        Raises:
            InputError: a row has none; names its place.
        """


class RowTable(Table):
    """A table whose rows are dictionaries.

    Args:
        name: what it is called in messages.
        column: the texts' column.
        opened: begins to read, and gives the rows.
        content: what they are read from; ``None`` for rows in memory.
    """

    def __init__(
        self, name: str, column: str, opened: Callable[[], Iterator[Placed]], content: Input | None = None
    ) -> None:
        super().__init__(name, column)
        self._opened, self._content = opened, content

    def rows(self) -> Iterator[Placed]:
        """Each row with its place for messages."""
        return self._opened()

    def is_unchanged(self) -> bool:
        """As :meth:`Table.is_unchanged`."""
        return self._content is None or self._content.is_unchanged()

    def chunks(self, size: int, *, columns: bool) -> Iterator[Chunk]:
        """As :meth:`Table.chunks`."""
        rows = self.rows()
        while placed := list(islice(rows, size)):
            texts = [self._text(place, row) for place, row in placed]
            places = [place for place, _ in placed]
            if columns:
                from .columns import from_rows

                yield Chunk(texts, places, from_rows(placed))
            else:
                yield Chunk(texts, places)

    def texts(self) -> Iterator[str]:
        """The texts in order."""
        for place, row in self.rows():
            yield self._text(place, row)

    def _text(self, place: str, row: Row) -> str:
        if self.column not in row:
            raise no_column(place, self.column, map(str, row))
        return checked(row[self.column], place, self.column)


class ParquetTable(Table):
    """A parquet file, read by Arrow tables, so that every column keeps its type."""

    def __init__(self, path: Path, column: str, file: ParquetFile) -> None:
        super().__init__(str(path), column, file.rows)
        self._file = file

    def rows(self) -> Iterator[Placed]:
        """Each row, of all columns, as Python's own types."""
        first = 1
        for table in self._file.tables(1024, every_column=True):
            yield from self._file.as_rows(table, first)
            first += table.num_rows

    def is_unchanged(self) -> bool:
        """As :meth:`Table.is_unchanged`."""
        return self._file.is_unchanged()

    def chunks(self, size: int, *, columns: bool) -> Iterator[Chunk]:
        """As :meth:`Table.chunks`."""
        first = 1
        for table in self._file.tables(size, every_column=columns):
            cells = self._file.cells(table, first)
            texts = [checked(value, place, self.column) for place, value in cells]
            yield Chunk(texts, [place for place, _ in cells], table if columns else None)
            first += len(texts)

    def texts(self) -> Iterator[str]:
        """The texts in order; other columns are not read."""
        for chunk in self.chunks(1024, columns=False):
            yield from chunk.texts


def open_table(
    source: Source,
    column: str = "text",
    *,
    format: str | None = None,  # noqa: A002 - its name
    bounds: Bounds | None = None,
) -> Table:
    """A table, of which nothing but a parquet file's footer has been read yet.

    Args:
        source: a path; ``"-"`` for stdin; a stream in binary mode; or an iterable of dictionaries, or of strings, which
            are then the column of texts.
        column: the texts' column.
        format: ``"txt"``, ``"jsonl"`` or ``"csv"``. ``None`` goes by the suffix of a path, and is jsonl for a stream.
        bounds: how long a row may be, and how large a compressed file may become; ``None`` takes the defaults.

    Raises:
        InputError: format or suffix is unknown, or the file cannot hold this column.
        FileNotFoundError: there is no such file.
        TypeError: it is none of these.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"format={format!r} is unknown; choose one of {', '.join(FORMATS)}")
    bounds = bounds or Bounds()
    if isinstance(source, str) and source == "-":
        return _of_stream(sys.stdin.buffer, "stdin", column, format, bounds)
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source).expanduser(), column, format, bounds)
    if isinstance(source, io.TextIOBase):
        raise TypeError(BINARY)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return _of_stream(source, name if isinstance(name, str) else "the stream", column, format, bounds)
    if isinstance(source, Mapping | bytes | set | frozenset) or hasattr(source, "columns"):
        raise TypeError(
            f"{type(source).__name__} is no table of rows; give a path, or an iterable of dictionaries or strings (of "
            "a data frame: df.to_dict('records'))"
        )
    if format is not None:
        raise InputError(f"format={format!r} is for paths and streams; rows in memory have none")
    rows = _of_items(source, column)
    return RowTable("the input", column, lambda: rows)


def path_of(source: Source) -> Path | None:
    """The file that a source is, if it is one."""
    return Path(source).expanduser() if isinstance(source, str | os.PathLike) and source != "-" else None


def checked(value: object, place: str, column: str) -> str:
    """A cell that must hold a text.

    Raises:
        InputError: it holds something else.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise InputError(f"{place}: {column!r} is null; drop the row or give it a text")
    raise InputError(f"{place}: {column!r} is {type(value).__name__} ({value!r:.40}), not a text")


def _of_path(path: Path, column: str, format: str | None, bounds: Bounds) -> Table:  # noqa: A002
    suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    is_parquet = format is None and path.suffix.lower() == ".parquet"
    format = format or SUFFIXES.get(suffix)  # noqa: A001
    if format is None and not is_parquet:
        raise InputError(
            f"{path}: the suffix {path.suffix!r} is unknown; give a .txt, .jsonl, .csv (all three also with .gz) or "
            ".parquet file"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a .txt, .jsonl, .csv or .parquet file")
    if not is_pipe(path):
        path.open("rb").close()  # the system's own message, before anything else is done
    elif format is None:
        raise InputError(f"{path} is a pipe, and parquet cannot be read from one; give a file")
    if format is None:
        require("pyarrow", "parquet", "reading parquet")
        from .parquet import ParquetFile

        return ParquetTable(path, column, ParquetFile(path, column, bounds))
    rows, content = FORMATS[format], Input(path, str(path), bounds)
    rows(iter(()), str(path), column)  # a .txt file has one column, which is said now
    return RowTable(str(path), column, lambda: rows(content.lines(), str(path), column, bounds), content)


def _of_stream(stream: Any, name: str, column: str, format: str | None, bounds: Bounds) -> Table:  # noqa: A002
    content = Input(stream, name, bounds)
    rows = FORMATS[format or "jsonl"](content.lines(), name, column, bounds)
    return RowTable(name, column, lambda: rows, content)


def _of_items(items: Any, column: str) -> Iterator[Placed]:
    if not isinstance(items, Iterable):
        raise TypeError(f"{type(items).__name__} is no table; give a path, or an iterable of dictionaries or strings")
    return _placed(items, column)


def _placed(items: Iterable[Any], column: str) -> Iterator[Placed]:
    for number, item in enumerate(items, start=1):
        if isinstance(item, str):
            yield f"row {number}", {column: item}
        elif isinstance(item, Mapping):
            yield f"row {number}", dict(item)
        else:
            raise InputError(f"row {number} is {type(item).__name__} ({item!r:.40}), not a dictionary or a text")
