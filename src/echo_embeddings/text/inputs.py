"""Check the texts that a user gives, as a list or in chunks.

Every way into the library comes through here. What has an order and holds strings is taken: a list, a tuple, a column
of a table, an array. Anything that would be taken apart into something else, such as a table into the names of its
columns, is refused with what to pass instead. No library is imported for that: columns and arrays are known by their
methods.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, Sized, ValuesView
from collections.abc import Set as AbstractSet
from itertools import islice, pairwise
from typing import Any, Protocol

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import require_whole

__all__ = ["CHUNK", "Column", "checked", "chunks", "elements", "portions"]

#: How many texts are tokenised and sorted by length together: enough to fill batches of texts of one length, few enough
#: to hold in memory.
CHUNK = 4096
#: The most characters that are tokenised together. Tokens of long documents would else fill the memory: each takes some
#: hundred bytes until its batch runs. Texts of 4,000 characters, and shorter ones, make chunks of ``CHUNK``.
_CHARACTERS = 2**24
# How numpy, pandas, polars and Arrow call the method that makes a list of an array or a column.
_LISTING = ("to_pylist", "to_list", "tolist")


#: What would be taken apart into something that is no text, and what to pass instead; the first that applies counts.
_REFUSED: tuple[tuple[Callable[[Any], object], str], ...] = (
    (lambda texts: isinstance(texts, str), "give a list of texts; one text goes in as [text]"),
    (lambda texts: isinstance(texts, bytes | bytearray), "decode it: [texts.decode('utf-8')]"),
    (
        lambda texts: any(hasattr(type(texts), name) for name in ("columns", "column_names")),
        "pass one of its columns, such as texts['text']",
    ),
    (
        lambda texts: isinstance(texts, Mapping | ItemsView),
        "pass a list of its values or of its keys, whichever are the texts",
    ),
    (
        lambda texts: isinstance(texts, AbstractSet) and not isinstance(texts, KeysView),
        "it has no order, so pass a list, such as sorted(texts)",
    ),
    (lambda texts: _dimensions(texts) == 0, "this array has no dimension; pass [str(texts)] for one text"),
    (
        lambda texts: _dimensions(texts) > 1,
        "this array has more than one dimension; pass one column, such as texts[:, 0], or texts.ravel()",
    ),
    (
        lambda texts: not _is_column(texts) and hasattr(texts, "readline"),
        "it would give lines with their line ends; pass texts.read().splitlines(), or [texts.read()] for one text",
    ),
    (
        lambda texts: isinstance(texts, os.PathLike),
        "pass what the file holds, such as texts.read_text().splitlines()",
    ),
    (lambda texts: _text_of(texts) == "page_content", "pass its text: [texts.page_content]"),
    (lambda texts: _text_of(texts) == "text", "pass its text: [texts.text]"),
    (
        lambda texts: isinstance(texts, array | memoryview | type) or not hasattr(texts, "__iter__"),
        "pass a list of strings, such as ['a text', 'another text']",
    ),
)


class _ToPylist(Protocol):
    def to_pylist(self) -> Any: ...


class _ToList(Protocol):
    def to_list(self) -> Any: ...


class _Tolist(Protocol):
    def tolist(self) -> Any: ...


#: A column or an array of strings: of numpy, pandas, polars or Arrow.
Column = _ToPylist | _ToList | _Tolist


def checked(texts: object, first: int = 0, streamed: str | None = "stream_documents or stream_queries") -> list[str]:
    """Make a list of texts, and check that each one is a string.

    Args:
        texts: a list, a tuple or another sequence of strings; a column (pandas, polars, Arrow, datasets) or an array
            with one dimension (numpy).
        first: the position of the first text, for error messages.
        streamed: the methods that take a generator instead; ``None`` if there is none.

    Raises:
        TypeError: ``texts`` is no sequence of strings; the message says what to pass instead, or names the first
            position that is wrong.
    """
    if instead := _instead_of(texts) or _instead_of_once(texts, streamed):
        raise TypeError(f"texts must be a string or a list of strings, not {_named(texts)}; {instead}")
    return _strings(_listed(texts), first)


def chunks(texts: Any, size: int, name: str = "chunk") -> Iterator[list[str]]:
    """Take texts from an iterable in checked lists of ``size`` (the last may be shorter), one list at a time.

    Args:
        texts: what :func:`checked` takes, or any other iterable of strings, such as a generator.
        size: number of texts in a list.
        name: what to call ``size`` in an error.

    Raises:
        TypeError: ``texts`` is one string or no iterable of strings (said at once), or a list holds something else
            (said when it is reached).
        ConfigError: ``size`` is no whole number of at least 1.
    """
    if instead := _instead_of(texts):
        raise TypeError(f"texts must be an iterable of strings, not {_named(texts)}; {instead}")
    require_whole(name, size, ConfigError)
    return _chunks(_one_by_one(texts, size), size)


def portions(texts: Sequence[str], times: int = 1) -> list[slice]:
    """Which texts of a call are tokenised and sorted by length together: ``CHUNK`` of them, or fewer long ones.

    Args:
        texts: all texts of the call.
        times: so many times as much is taken, where several devices share it.

    Returns:
        Slices that follow each other.
    """
    ends, characters = [0], 0
    for i, text in enumerate(texts):
        characters += len(text)
        if i > ends[-1] and (i - ends[-1] >= CHUNK * times or characters > _CHARACTERS * times):
            ends.append(i)
            characters = len(text)
    if texts:
        ends.append(len(texts))
    return [slice(start, end) for start, end in pairwise(ends)]


def elements(given: object, name: str) -> list[object]:
    """List the elements of an iterable of texts or of something that holds texts; the elements are not checked.

    Args:
        given: what :func:`chunks` takes.
        name: what to call it in the error.

    Raises:
        TypeError: it would be taken apart into something else, such as a table into the names of its columns.
    """
    if instead := _instead_of(given):
        instead = re.sub(r"\btexts(?=[.\[)])", name, instead)
        raise TypeError(f"{name} must be an iterable, not {_named(given)}; {instead}")
    return _listed(given)


def _chunks(texts: Iterator[object], size: int) -> Iterator[list[str]]:
    start = 0
    while chunk := list(islice(texts, size)):
        yield _strings(chunk, start)
        start += len(chunk)


def _one_by_one(texts: Any, size: int) -> Iterator[object]:
    if not hasattr(type(texts), "to_pylist"):
        return iter(texts)
    # Arrow gives objects of its own when it is iterated.
    return (text for start in range(0, len(texts), size) for text in texts[start : start + size].to_pylist())


def _listed(texts: Any) -> list[object]:
    for method in _LISTING:
        if hasattr(type(texts), method):
            return list(getattr(texts, method)())
    return list(texts)


def _strings(listed: list[object], first: int) -> list[str]:
    for position, text in enumerate(listed, start=first):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{position}] is {type(text).__name__} ({text!r:.40}), not a string; {_instead_of_one(text)}"
            )
    strings: list[Any] = listed
    return strings


def _named(texts: object) -> str:
    return "one string" if isinstance(texts, str) else type(texts).__name__


def _instead_of(texts: object) -> str | None:
    """Say what to pass instead of an object that cannot be taken as texts, even once; ``None`` for any other object."""
    return next((instead for applies, instead in _REFUSED if applies(texts)), None)


def _instead_of_once(texts: object, streamed: str | None) -> str | None:
    """Say what to pass instead of an object that can be iterated only once, or that has no length."""
    if isinstance(texts, Sequence | ValuesView | KeysView) or _is_column(texts):
        return None
    if isinstance(texts, Iterator) or not isinstance(texts, Sized):
        return f"pass list(texts), or give it to {streamed}" if streamed else "pass list(texts)"
    # An object that tells keys from values is a table of some kind.
    return "pass a list of its texts" if hasattr(type(texts), "keys") else None


def _instead_of_one(text: object) -> str:
    """Say what to do with an element that is no string."""
    if isinstance(text, Mapping):
        return "pass one of its fields, such as [row['text'] for row in rows]"
    if isinstance(text, list | tuple) or (hasattr(type(text), "ndim") and _dimensions(text)):
        return "pass a flat list of strings"
    if isinstance(text, bytes | bytearray):
        return "drop it or turn it into one: text.decode('utf-8')"
    if attribute := _text_of(text):
        return f"pass its text, such as [one.{attribute} for one in documents]"
    return "drop it or turn it into one"


def _is_column(texts: object) -> bool:
    return any(hasattr(type(texts), method) for method in _LISTING)


def _dimensions(texts: Any) -> int:
    """The number of dimensions of an array; 1 for anything else."""
    return int(texts.ndim) if hasattr(type(texts), "ndim") else 1


def _text_of(document: object) -> str | None:
    """The attribute that holds the text of a framework's document or node."""
    if _is_column(document):  # a series of pandas has its labels as attributes
        return None
    names = (name for name in ("page_content", "text") if isinstance(getattr(document, name, None), str))
    return next(names, None)
