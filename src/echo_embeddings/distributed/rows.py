"""Embed one block of rows, and say which of them cannot be embedded, and why. Knows no engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from echo_embeddings.data.reading import Bounds
from echo_embeddings.data.tables import checked
from echo_embeddings.errors import (
    ConfigError,
    EchoError,
    InputError,
    NumericalError,
    TruncationError,
    TruncationWarning,
)
from echo_embeddings.types import Role, Vectors

if TYPE_CHECKING:
    from echo_embeddings.encoder import EchoEncoder

__all__ = ["ON_ERROR", "Cell", "Embedded", "cells", "embed_rows", "require_role"]

#: What can be done about a row that cannot be embedded.
ON_ERROR = ("raise", "skip")

#: A text, or why there is none.
Cell = str | EchoError


@dataclass(frozen=True)
class Embedded:
    """What became of a block.

    Attributes:
        vectors: ``[len(kept), width]``, in the encoder's precision.
        kept: the rows that have a vector, counted from 0.
        bad: the rows that have none, with the reason.
    """

    vectors: Vectors
    kept: list[int]
    bad: dict[int, EchoError]


def require_role(role: str) -> Role:
    """Check that a role is one.

    Raises:
        ConfigError: it is none.
    """
    if role == "document":
        return "document"
    if role == "query":
        return "query"
    raise ConfigError(f"role={role!r} is unknown; choose document or query")


def cells(column: Any, name: str, place: Callable[[int], str], bounds: Bounds) -> list[Cell]:
    """The cells of an Arrow column that should be texts, by the rules of ``embed_table``.

    Args:
        column: the column.
        name: its name, for messages.
        place: says where a row stands, counted from 0.
        bounds: how long a text may be.
    """
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(cell, place(row)) for row, cell in enumerate(column)]
    return [_cell(value, name, place(row), bounds) for row, value in enumerate(values)]


def embed_rows(
    encoder: EchoEncoder, content: Sequence[Cell], role: Role, place: Callable[[int], str], *, skip: bool
) -> Embedded:
    """Embed a block of rows in one call of the encoder, which makes batches by their tokens.

    Args:
        encoder: what embeds.
        content: the rows.
        role: "document" or "query".
        place: says where a row stands, counted from 0.
        skip: leave out the rows that cannot be embedded; else the first of them is raised.

    Raises:
        EchoError: a row cannot be embedded; names its place.
    """
    bad = {row: cell for row, cell in enumerate(content) if isinstance(cell, EchoError)}
    while True:
        if bad and not skip:
            raise bad[min(bad)]
        kept = {row: cell for row, cell in enumerate(content) if isinstance(cell, str) and row not in bad}
        try:
            return Embedded(_embed(encoder, list(kept.values()), role), list(kept), bad)
        except TruncationError:
            found = _too_long(encoder, kept, role, place)
        except NumericalError:
            found = _not_finite(encoder, kept, role, place)
        if not found:
            raise AssertionError("an error that no row has")
        bad |= found


def _value(cell: Any, place: str) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return InputError(f"{place}: this text is not UTF-8")


def _cell(value: Any, name: str, place: str, bounds: Bounds) -> Cell:
    if isinstance(value, InputError):
        return value
    try:
        text = checked(value, place, name)
    except InputError as error:
        return error
    return bounds.too_long(place, "this text") if len(text) > bounds.row_bytes else text


def _embed(encoder: EchoEncoder, texts: list[str], role: Role) -> Vectors:
    encode = encoder.encode_queries if role == "query" else encoder.encode_documents
    with warnings.catch_warnings():
        if encoder.truncated.texts:  # said once a process is enough
            warnings.simplefilter("ignore", TruncationWarning)
        return encode(texts)


def _too_long(
    encoder: EchoEncoder, rows: dict[int, str], role: Role, place: Callable[[int], str]
) -> dict[int, EchoError]:
    engine = encoder.engine
    limit, counts = engine.limit(role), engine.tokenize(list(rows.values()), role)
    return {
        row: InputError(
            f"{place(row)}: the text has {count} tokens, and {limit} are read: {text[:60]!r}. Split it, raise "
            "max_length, leave it out with on_error='skip' (--on-error skip), or use on_truncate='warn'"
        )
        for (row, text), count in zip(rows.items(), counts, strict=True)
        if count > limit
    }


def _not_finite(
    encoder: EchoEncoder, rows: dict[int, str], role: Role, place: Callable[[int], str]
) -> dict[int, EchoError]:
    """The rows whose vectors have NaN or infinity in them, found by halving: it is rare, and costs a few passes."""
    try:
        _embed(encoder, list(rows.values()), role)
    except NumericalError as error:
        if len(rows) == 1:
            return {row: NumericalError(f"{place(row)}: {error}") for row in rows}
        half = len(rows) // 2
        parts = dict(list(rows.items())[:half]), dict(list(rows.items())[half:])
        found = [_not_finite(encoder, part, role, place) for part in parts]
        return found[0] | found[1]
    return {}
