"""Which characters of a document each of its chunks has, and which tokens that are. Knows no tokenizer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from echo_embeddings.errors import InputError

from .layout import Ids

__all__ = ["Chunker", "Spans", "char_spans", "checked_spans", "require_chunks", "token_ranges"]

#: First and last-plus-one character of each chunk of a document: ``[(0, 120), (120, 250)]``, or int ``[n, 2]``.
Spans = Iterable[Sequence[int]] | Ids
#: A function that gives the spans of a document.
Chunker = Callable[[str], Spans]

# How LlamaIndex, LangChain and chonkie call the method that splits a text.
_SPLITTING = ("get_nodes_from_documents", "split_text", "chunk")


def require_chunks(chunks: Any) -> None:
    """Refuse what is neither a function from a document to its spans nor something that holds spans.

    Raises:
        TypeError: it is neither; the message says what to pass instead.
    """
    if callable(chunks):  # some splitters can be called, but with something else than a text
        fits = not isinstance(chunks, type) and not any(hasattr(chunks, name) for name in _SPLITTING)
    else:
        fits = isinstance(chunks, Iterable) and not isinstance(chunks, str)
    if not fits:
        named = f"the class {chunks.__name__}" if isinstance(chunks, type) else type(chunks).__name__
        raise TypeError(
            f"chunks must be a function from a document to spans, or a list of (start, end) for each document, not "
            f"{named}; for a splitter of another library: echo_embeddings.chunking.spans_of(splitter)"
        )


def char_spans(documents: Sequence[str], chunks: Any, first: int = 0) -> list[Ids]:
    """The checked spans of some documents.

    Args:
        documents: the documents.
        chunks: a function from a document to its spans, or the spans of each document.
        first: the position of the first document, for error messages.

    Returns:
        For each document int64 ``[n, 2]``: first and last-plus-one character of each chunk, in the order given.

    Raises:
        InputError: a span is no part of its document, or there are more or fewer lists of spans than documents.
        TypeError: something is no span.
    """
    require_chunks(chunks)
    each = [chunks(document) for document in documents] if callable(chunks) else list(chunks)
    if len(each) != len(documents):
        raise InputError(
            f"chunks has the spans of {first + len(each)} document(s), and there are {first + len(documents)} "
            "document(s); give a list of (start, end) for each document, [] for one without chunks"
        )
    pairs = enumerate(zip(documents, each, strict=True), start=first)
    return [checked_spans(text, spans, f"chunks[{i}]") for i, (text, spans) in pairs]


def checked_spans(document: str, spans: Any, name: str = "chunks") -> Ids:
    """The spans of one document as int64 ``[n, 2]``.

    Args:
        document: the document.
        spans: ``(start, end)`` of each chunk in characters, the end exclusive.
        name: what to call the spans in an error.

    Raises:
        InputError: a span is no part of the document.
        TypeError: something is no span.
    """
    if isinstance(spans, str) or not isinstance(spans, Iterable):
        raise TypeError(f"{name} is {spans!r:.60}, not a list of (start, end), in characters of the document")
    pairs = [_pair(span, f"{name}[{i}]") for i, span in enumerate(spans)]
    for i, (start, end) in enumerate(pairs):
        if not 0 <= start <= end <= len(document):
            raise InputError(
                f"{name}[{i}] is ({start}, {end}), which is no part of the document {document[:40]!r}: it has "
                f"{len(document)} characters, and a span is (start, end) with 0 <= start <= end <= {len(document)}"
            )
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _pair(span: Any, name: str) -> tuple[int, int]:
    if isinstance(span, str):
        raise TypeError(
            f"{name} is a text ({span!r:.40}); give its place in the document, (start, end) in characters. "
            "echo_embeddings.chunking.spans_of turns a function from a document to texts into one that gives spans"
        )
    if any(isinstance(getattr(span, attribute, None), str) for attribute in ("text", "page_content")):
        raise TypeError(
            f"{name} is a {type(span).__name__} of another library; give its place in the document, (start, end) in "
            "characters, or what made it: echo_embeddings.chunking.spans_of(splitter)"
        )
    try:
        start, end = span
        return operator.index(start), operator.index(end)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {span!r:.60}, not a pair of whole numbers (start, end)") from None


def token_ranges(document: str, offsets: Ids, spans: Ids) -> Ids:
    """The tokens of each span: those that have at least one of its characters.

    So a token that a span cuts belongs to it, and a token may belong to several spans. White space at the ends of a
    token does not count, as the space that many tokenizers put before a word; a token of nothing else has its
    characters. A span from the first character has also what the tokenizer put before it, and one to the last
    character what follows that.

    Args:
        document: the text.
        offsets: int ``[tokens, 2]``, first and last-plus-one character of each token.
        spans: int ``[n, 2]``, in characters.

    Returns:
        int64 ``[n, 2]``, first and last-plus-one token of each span; an empty range for a span that has no token.
    """
    starts, ends = _without_space(document, offsets)
    first = np.searchsorted(ends, spans[:, 0], side="right")
    stop = np.searchsorted(starts, spans[:, 1], side="left")
    first = np.where(spans[:, 0] == 0, 0, first)
    stop = np.where(spans[:, 1] == len(document), len(offsets), stop)
    is_empty = (spans[:, 0] == spans[:, 1]) | (stop <= first)
    return np.stack([np.where(is_empty, 0, first), np.where(is_empty, 0, stop)], axis=1).astype(np.int64)


def _without_space(document: str, offsets: Ids) -> tuple[Ids, Ids]:
    """First and last-plus-one character of each token without white space at its ends; both never fall."""
    starts, ends = offsets[:, 0], np.maximum(offsets[:, 1], offsets[:, 0] + 1)
    places = np.arange(len(document) + 1)
    is_space = np.fromiter((character.isspace() for character in document), dtype=bool, count=len(document))
    is_space = np.append(is_space, False)
    after = np.minimum.accumulate(np.where(is_space, len(document), places)[::-1])[::-1]
    before = np.maximum.accumulate(np.where(is_space, 0, places + 1))
    before = np.concatenate([[0], before])
    first = after[np.minimum(starts, len(document))]
    stop = before[np.minimum(ends, len(document))]
    has_word = first < stop
    first, stop = np.where(has_word, first, starts), np.where(has_word, stop, ends)
    return np.maximum.accumulate(first), np.maximum.accumulate(stop)
