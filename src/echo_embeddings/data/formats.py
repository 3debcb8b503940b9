"""Text formats as rows: one text a line (txt), one object a line (jsonl), and csv. Knows no vectors and no pyarrow.

Each format is a function from numbered lines to rows with their places, so a file and a stream are read alike.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from echo_embeddings.errors import InputError

from .reading import Bounds, Input, Lines, decoded

__all__ = ["FORMATS", "SUFFIXES", "Lines", "Placed", "Row", "decoded", "json_value", "lines", "no_column"]

Row = dict[str, Any]

#: A row with its place for messages, such as ``texts.jsonl:17``.
Placed = tuple[str, Row]


def lines(path: Path) -> Lines:
    """Numbered lines of a file, which is decompressed if its name ends in ``.gz``.

    Raises:
        InputError: a line is not UTF-8 or is too long, or the gzip data is damaged or becomes too large.
    """
    return Input(path, str(path)).lines()


def text_rows(numbered: Lines, name: str, column: str, _: Bounds | None = None) -> Iterator[Placed]:
    """Each line is a text in the column ``text``; an empty line is an empty text.

    Raises:
        InputError: another column is asked for.
    """
    if column != "text":
        raise InputError(f"{name} has no column {column!r}; the lines of a .txt file are the column 'text'")
    return ((f"{name}:{number}", {"text": line.rstrip("\r\n")}) for number, line in numbered)


def json_rows(numbered: Lines, name: str, column: str, _: Bounds | None = None) -> Iterator[Placed]:
    """Each line is an object; blank lines are skipped.

    Raises:
        InputError: a line is no JSON object.
    """
    for number, line in numbered:
        if line.isspace():
            continue
        place = f"{name}:{number}"
        try:
            row = json_value(line)
        except RecursionError:
            raise InputError(f"{place}: this line is nested too deeply to be read") from None
        except ValueError as error:
            raise InputError(f"{place}: this line is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{place}: this line is not an object such as {{{column!r}: ...}}")
        yield place, row


def json_value(line: str) -> Any:
    """What a line of JSON holds.

    Raises:
        ValueError: it is no JSON, or an object has a key twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(line, object_pairs_hook=_with_each_key_once)


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a key that it has twice Python would keep the last value, and drop the others in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the key {next(one for one in names if names.count(one) > 1)!r} twice")
    return found


def csv_rows(numbered: Lines, name: str, column: str, bounds: Bounds | None = None) -> Iterator[Placed]:
    """Each record is a row, and may go over several lines. The first line holds the columns' names.

    Every cell stays the string that it is: ``007`` does not become 7.

    Raises:
        InputError: the header lacks the column or has a name twice, or a row is not CSV or is too long.
    """
    bounds = bounds or Bounds()
    csv.field_size_limit(max(bounds.row_bytes, 1 << 30))
    first = size = 0

    def bounded() -> Iterator[str]:
        nonlocal first, size
        for number, line in numbered:
            first = first or number
            size += len(line)
            if size > bounds.row_bytes:
                raise bounds.too_long(f"{name}:{first}", "the row that begins on this line (is a quote not closed?)")
            yield line

    reader = csv.reader(bounded(), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        _check_header(header, name, column)
        first = size = 0
        for cells in reader:
            first = size = 0
            if not cells:
                continue  # a blank line
            place = f"{name}:{reader.line_num}"
            if len(cells) != len(header):
                raise InputError(f"{place}: this row has {len(cells)} cells, but the header has {len(header)}")
            yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{name}:{reader.line_num}: this row is not CSV ({error})") from error


#: What can be read line by line, by the name of the format.
FORMATS: dict[str, Callable[..., Iterator[Placed]]] = {
    "txt": text_rows,
    "jsonl": json_rows,
    "csv": csv_rows,
}

#: The format of each suffix.
SUFFIXES = {".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def no_column(place: str, column: str, names: Iterable[str]) -> InputError:
    """The error for a row, or a file, that lacks the column of texts."""
    listed = ", ".join(name if name.isprintable() else repr(name) for name in names) or "nothing"
    return InputError(f"{place}: there is no column {column!r}, only {listed}; choose one with --column")


def _check_header(header: list[str], name: str, column: str) -> None:
    if column not in header:
        raise no_column(name, column, header)
    if len(set(header)) != len(header):
        twice = next(cell for cell in header if header.count(cell) > 1)
        raise InputError(f"{name} has two columns {twice!r}; rename one")
