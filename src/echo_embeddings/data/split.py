"""A table whose rows are the passages of another table's texts. Knows no vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from echo_embeddings.errors import InputError

from .formats import Placed
from .passages import chunks
from .tables import Chunk, Table

__all__ = ["ADDED", "SplitTable", "passage_spans"]

#: What a passage has beside the columns of its row: the number of the row from 0, and its span in the row's text.
ADDED = ("row", "start", "end")
#: Rows that are read at once.
_ROWS = 16
# The most bytes that other columns may take beside the passages of so many rows; a column of Arrow's holds no more.
_MOST = 2**31 - 1


def passage_spans(text: str) -> list[tuple[int, int]]:
    """Find the passages of a text, as :func:`chunks` splits it.

    Returns:
        For each the first and last-plus-one character; a text without a word is one passage.
    """
    found: list[tuple[int, int]] = []
    at = 0
    for block in chunks(text.splitlines()):
        start = None
        for word in block.text.split():  # only white space, and lines that underline a heading, are left out
            first = text.index(word, at)
            start, at = (first if start is None else start), first + len(word)
        if start is not None:
            found.append((start, at))
    return found or [(0, len(text))]


class SplitTable(Table):
    """The passages of a table's texts. All passages of a text stand in the same chunk.

    Args:
        table: what is split.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table.name, table.column)
        self._table = table

    def is_unchanged(self) -> bool:
        """As :meth:`Table.is_unchanged`."""
        return self._table.is_unchanged()

    def rows(self) -> Iterator[Placed]:
        """Each passage as a row."""
        for number, (place, row) in enumerate(self._table.rows()):
            text = row[self.column]
            for start, end in passage_spans(text):
                more = dict(zip(ADDED, (number, start, end), strict=True))
                yield place, {**row, self.column: text[start:end], **more}

    def texts(self) -> Iterator[str]:
        """The passages in order."""
        for text in self._table.texts():
            yield from (text[start:end] for start, end in passage_spans(text))

    def chunks(self, size: int, *, columns: bool) -> Iterator[Chunk]:
        """Chunks of the passages of whole rows: of about as many rows as make ``size`` passages."""
        waiting: list[Chunk] = []
        count = first = 0
        for rows in self._table.chunks(_ROWS, columns=columns):  # few: a text may have thousands of passages
            one = _split(rows, first, self.column)
            waiting.append(one)
            count, first = count + len(one.texts), first + len(rows.texts)
            if count >= size:
                yield _joined(waiting)
                waiting, count = [], 0
        if waiting:
            yield _joined(waiting)


def _split(rows: Chunk, first: int, column: str) -> Chunk:
    """The passages of some rows; ``first`` is the number of the first row."""
    documents = [(text, passage_spans(text)) for text in rows.texts]
    texts = [text[start:end] for text, spans in documents for start, end in spans]
    numbers = [number for number, (_, spans) in enumerate(documents) for _ in spans]
    places = [rows.places[number] for number in numbers]
    if rows.columns is None:
        return Chunk(texts, places, None, documents)
    import pyarrow as pa

    if taken := [name for name in ADDED if name in rows.columns.schema.names]:
        raise InputError(
            f"{rows.places[0]}: there is a column {taken[0]!r} already, and split='passages' (--split passages) adds "
            f"{', '.join(ADDED)}; rename it"
        )
    _require_small(rows.columns.drop_columns([column]), numbers, rows.places)
    starts, ends = zip(*(span for _, some in documents for span in some), strict=True)
    added = dict(zip(ADDED, ([first + number for number in numbers], starts, ends), strict=True))
    return Chunk(
        texts, places, _repeated(rows.columns, numbers, {column: pa.array(texts, pa.string())}, added), documents
    )


def _repeated(table: Any, rows: list[int], changed: dict[str, Any], added: dict[str, Sequence[int]]) -> Any:
    """An Arrow table of these rows of another, with some columns changed, and whole numbers behind them.

    Changed columns are not repeated first: a text would stand beside each of its own passages.
    """
    import pyarrow as pa

    wanted, schema = pa.array(rows, pa.int64()), table.schema
    arrays = [changed[name] if name in changed else table.column(name).take(wanted) for name in table.column_names]
    for name, array in changed.items():
        schema = schema.set(schema.get_field_index(name), pa.field(name, array.type))
    for name, numbers in added.items():
        schema = schema.append(pa.field(name, pa.int64()))
        arrays.append(pa.array(numbers, pa.int64()))
    return pa.Table.from_arrays(arrays, schema=schema)


def _require_small(others: Any, numbers: list[int], places: list[str]) -> None:
    """Refuse rows whose other columns are too large to stand beside each of their passages.

    Args:
        others: those columns, as an Arrow table.
        numbers: of each passage its row.
        places: of each row its place.

    Raises:
        InputError: they are; it names the largest row and column.
    """
    passages = Counter(numbers)
    if sum(map(_size, others.columns)) * max(passages.values()) <= _MOST:
        return
    of_each = [[_size(column.slice(row, 1)) for column in others.columns] for row in range(others.num_rows)]
    repeated = [sum(sizes) * passages[row] for row, sizes in enumerate(of_each)]
    if sum(repeated) <= _MOST:
        return
    row = repeated.index(max(repeated))
    name = others.column_names[of_each[row].index(max(of_each[row]))]
    raise InputError(
        f"{places[row]}: what stands beside the text takes {sum(of_each[row]):,} bytes, most of them in column "
        f"{name!r}, and would stand beside each of its {passages[row]:,} passages; leave that column out"
    )


def _size(column: Any) -> int:
    """The bytes that are copied where rows are repeated: of a dictionary's column its indices."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return sum(piece.indices.nbytes for piece in column.chunks)
    return int(column.nbytes)


def _joined(some: list[Chunk]) -> Chunk:
    """Chunks one behind the other as one."""
    texts = [text for one in some for text in one.texts]
    places = [place for one in some for place in one.places]
    documents = [document for one in some for document in one.documents or ()]
    if some[0].columns is None:
        return Chunk(texts, places, None, documents)
    import pyarrow as pa

    from .columns import fitted, merged

    schema = None
    for one in some:
        schema = merged(schema, one.columns, _below(one))
    return Chunk(texts, places, pa.concat_tables([fitted(one.columns, schema, _below(one)) for one in some]), documents)


def _below(chunk: Chunk) -> str:
    return f"{chunk.places[0]} and the rows below it"
