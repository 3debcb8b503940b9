"""Tables of texts in the formats people have: one row after another, never the whole file in memory.

A table is read three times: checked before anything is computed, embedded, and copied into the output.
"""

from __future__ import annotations

import csv
import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echo_embeddings.errors import InputError
from echo_embeddings.extras import require

__all__ = ["CsvTable", "JsonTable", "Row", "Table", "TextTable", "lines", "open_table"]

Row = dict[str, Any]


class Table(ABC):
    """Rows with a column of texts.

    Args:
        path: the file.
        column: the texts' column.
    """

    def __init__(self, path: Path, column: str) -> None:
        self.path, self.column = path, column

    @abstractmethod
    def rows(self) -> Iterator[tuple[str, Row]]:
        """Each row with its place in the file, for messages."""

    def texts(self) -> Iterator[str]:
        """The texts in order.

        Raises:
            InputError: a row has none; names its place.
        """
        for place, row in self.rows():
            if self.column not in row:
                raise _no_column(place, self.column, list(row))
            yield checked(row[self.column], place, self.column)

    def count(self) -> int:
        """Check every row, and say how many there are.

        Raises:
            InputError: there are none, or one of them cannot be embedded.
        """
        rows = sum(1 for _ in self.texts())
        if not rows:
            raise InputError(f"{self.path} is empty: there is nothing to embed")
        return rows


class TextTable(Table):
    """A ``.txt`` file: each line is a text, an empty line an empty text."""

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(path, column)
        if column != "text":
            raise InputError(f"{path} has no column {column!r}; the lines of a .txt file are the column 'text'")

    def rows(self) -> Iterator[tuple[str, Row]]:
        """One a line."""
        for number, line in lines(self.path):
            yield f"{self.path}:{number}", {"text": line.rstrip("\r\n")}


class JsonTable(Table):
    """A ``.jsonl`` file: each line is an object; blank lines are skipped."""

    def rows(self) -> Iterator[tuple[str, Row]]:
        """One an object."""
        for number, line in lines(self.path):
            if line.isspace():
                continue
            place = f"{self.path}:{number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{place}: this line is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise InputError(f"{place}: this line is not an object such as {{{self.column!r}: ...}}")
            yield place, row


class CsvTable(Table):
    """A ``.csv`` file with a header. Every cell stays the string it is: ``007`` does not become 7."""

    def rows(self) -> Iterator[tuple[str, Row]]:
        """One a record, which may go over several lines."""
        csv.field_size_limit(1 << 30)
        reader = csv.reader((line for _, line in lines(self.path)), strict=True)
        try:
            header = next(reader, None)
            if header is None:
                return
            self._check_header(header)
            for cells in reader:
                if not cells:
                    continue  # a blank line
                place = f"{self.path}:{reader.line_num}"
                if len(cells) != len(header):
                    raise InputError(f"{place}: this row has {len(cells)} cells, but the header has {len(header)}")
                yield place, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{self.path}:{reader.line_num}: this row is not CSV ({error})") from error

    def _check_header(self, header: list[str]) -> None:
        if self.column not in header:
            raise _no_column(str(self.path), self.column, header)
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{self.path} has two columns {twice!r}; rename one")


def open_table(path: Path, column: str) -> Table:
    """A table by its suffix.

    Raises:
        InputError: the suffix is unknown.
        FileNotFoundError: there is no such file.
    """
    suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    kinds: dict[str, type[Table]] = {".txt": TextTable, ".jsonl": JsonTable, ".ndjson": JsonTable, ".csv": CsvTable}
    if suffix not in kinds and path.suffix.lower() != ".parquet":
        raise InputError(
            f"{path}: the suffix {path.suffix!r} is unknown; give a .txt, .jsonl, .csv (all three also with .gz) or "
            ".parquet file"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a .txt, .jsonl, .csv or .parquet file")
    path.open("rb").close()  # the system's own message, before anything else is done
    if suffix == ".parquet" and path.suffix.lower() != ".gz":
        require("pyarrow", "parquet", "reading parquet")
        from .parquet import ParquetTable

        return ParquetTable(path, column)
    return kinds[suffix](path, column)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends, split at newlines only and decoded one by one, so that a bad one can be named.

    Args:
        path: the file; gunzipped if its name ends in ``.gz``.

    Raises:
        InputError: a line is not UTF-8.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:  # noqa: PERF203 - each line may be the bad one
                raise InputError(
                    f"{path}:{number}: this line is not UTF-8 ({error.reason}); convert the file"
                ) from error


def checked(value: object, place: str, column: str) -> str:
    """A cell that must hold a text."""
    if isinstance(value, str):
        return value
    if value is None:
        raise InputError(f"{place}: {column!r} is null; drop the row or give it a text")
    raise InputError(f"{place}: {column!r} is {type(value).__name__} ({value!r:.40}), not a text")


def _no_column(place: str, column: str, names: list[str]) -> InputError:
    listed = ", ".join(names) or "nothing"
    return InputError(f"{place}: there is no column {column!r}, only {listed}; choose one with --column")
