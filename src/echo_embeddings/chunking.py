"""Other people's chunkers as functions from a document to spans, for ``EchoEncoder.encode_chunks``.

Nothing is split here, and no library is imported: a chunker is known by its methods, and what it gives by its
attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import InputError
from .text.spans import Chunker

__all__ = ["spans_of"]

_Span = tuple[int, int]
_SPACE = re.compile(r"\s*")


def spans_of(chunker: Any) -> Chunker:
    """A function from a document to the spans of its chunks, made from a chunker of another library.

    Each chunk becomes first and last-plus-one character of its text in the document. Where the library says where a
    chunk stands, and that text stands there, this is taken. Else it is looked for: behind the chunk before it, then
    anywhere behind the beginning of that one (chunks may overlap), then before it, from there on backwards; white space
    may differ.

    Args:
        chunker: a text splitter of LangChain (``split_text``), a node parser of LlamaIndex
            (``get_nodes_from_documents``), a chunker of chonkie (``chunk``), or any function from a text to a list of
            texts, of spans, or of these libraries' documents, nodes and chunks.

    Raises:
        TypeError: ``chunker`` is none of these; or what it gives for a document is not.
        InputError: a chunk does not stand in the document; raised by the function that is returned.
    """
    split = _splitting(chunker)

    def spans(document: str) -> list[_Span]:
        found: list[_Span] = []
        pieces = split(document)
        if isinstance(pieces, str) or not isinstance(pieces, Iterable):
            raise TypeError(f"the chunker gave {pieces!r:.60} for a document, not a list of its chunks")
        for number, piece in enumerate(pieces):
            before = found[-1] if found else (-1, 0)
            found.append(_span(piece, document, before, number))
        return found

    return spans


def _splitting(chunker: Any) -> Any:
    """The function or method that splits one text."""
    if isinstance(chunker, type):
        raise TypeError(f"chunker is the class {chunker.__name__}; give an object of it, such as {chunker.__name__}()")
    if hasattr(chunker, "get_nodes_from_documents"):
        return lambda text: chunker.get_nodes_from_documents([_document(text)])
    for method in ("split_text", "chunk"):
        if hasattr(chunker, method):
            return getattr(chunker, method)
    if callable(chunker):
        return chunker
    raise TypeError(
        f"chunker is a {type(chunker).__name__}, which has no split_text (LangChain), get_nodes_from_documents "
        "(LlamaIndex) or chunk (chonkie), and is no function from a text to its chunks"
    )


def _document(text: str) -> Any:
    from llama_index.core.schema import Document  # the chunker has come from there

    return Document(text=text)


def _span(piece: Any, document: str, before: _Span, number: int) -> _Span:
    """The span of one chunk, whatever the chunker calls it."""
    if isinstance(piece, tuple | list | np.ndarray) and len(piece) == 2 and not isinstance(piece[0], str):
        return piece[0], piece[1]
    text = _text(piece)
    if text is None:
        raise TypeError(
            f"chunk {number} is {piece!r:.60}, a {type(piece).__name__}: neither a text, nor a span (start, end), nor "
            "an object with a text"
        )
    start = _start(piece)
    if start is not None and start >= 0 and document.startswith(text, start):
        return start, start + len(text)
    return _located(text, document, before, number)


def _text(piece: Any) -> str | None:
    """The text of a chunk: of chonkie (``text``), a node of LlamaIndex (``text``), a document of LangChain."""
    if isinstance(piece, str):
        return piece
    names = (name for name in ("page_content", "text") if isinstance(getattr(piece, name, None), str))
    name = next(names, None)
    return None if name is None else str(getattr(piece, name))


def _start(piece: Any) -> int | None:
    """Where a chunk begins, if its library says so."""
    metadata = getattr(piece, "metadata", None)
    said = [getattr(piece, "start_index", None), getattr(piece, "start_char_idx", None)]
    said += [metadata.get("start_index")] if isinstance(metadata, dict) else []
    return next((one for one in said if isinstance(one, int)), None)


def _located(text: str, document: str, before: _Span, number: int) -> _Span:
    """Where a chunk stands, looked for from behind the chunk before it."""
    behind = _SPACE.match(document, before[1])
    for start in (before[1], before[1] if behind is None else behind.end()):
        if document.startswith(text, start):
            return start, start + len(text)
    # Before the chunk before it, the last place: where words recur and chunks overlap, places are found too far behind,
    # until nothing is left there.
    for found in (document.find(text, before[0] + 1), document.rfind(text)):
        if found >= 0:
            return found, found + len(text)
    words = re.compile(r"\s+".join(map(re.escape, text.split())))
    for start in (before[1], before[0] + 1):
        if match := words.search(document, start):
            return match.span()
    if matches := list(words.finditer(document)):
        return matches[-1].span()
    raise InputError(
        f"chunk {number} of the chunker, {text[:60]!r}, does not stand in the document {document[:40]!r}, so it cannot "
        "be embedded in its context; take a chunker that does not change the text, or one that gives (start, end)"
    )
