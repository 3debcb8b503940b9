"""How a text that is longer than the model may read is read all the same: in stretches of tokens.

A vector for a whole text comes from stretches side by side, so that each token is read once. Vectors of chunks and of
tokens come from stretches that overlap, so that each has context on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .layout import Content

__all__ = ["Part", "Stretch", "for_chunks", "for_texts", "for_tokens", "overlapping", "side_by_side"]

#: Stretches overlap by at least 1 in so many of their tokens: 32 of 512. So a token has at least half of that as
#: context on each side, unless the text ends there, and a fifteenth more tokens are read. With an eighth it was a
#: seventh, and sentences found their article's paragraph no better (docs/guides/long-documents.md).
_OVERLAP = 16

_Range = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Tokens of one stretch that belong to one thing that gets vectors: a text or a chunk.

    Attributes:
        of: which text or chunk it is a part of.
        first: the first of its tokens, counted in the stretch.
        stop: the last of them plus one.
        share: how much of the thing it is, by tokens; all parts of a thing together are 1.
    """

    of: int
    first: int
    stop: int
    share: float = 1.0


@dataclass(frozen=True)
class Stretch:
    """Tokens of one text that the model reads at once.

    Attributes:
        text: which text they are of.
        first: the first of them, counted in the text.
        content: the tokens.
        parts: what is taken from them.
    """

    text: int
    first: int
    content: Content
    parts: tuple[Part, ...]


def side_by_side(tokens: int, limit: int) -> list[_Range]:
    """Split a text into as few stretches as possible, all of about the same length.

    Args:
        tokens: of the text, from 1.
        limit: the most tokens of a stretch.

    Returns:
        First and last-plus-one token of each.
    """
    count = -(-tokens // limit)
    ends = [i * tokens // count for i in range(count + 1)]
    return list(pairwise(ends))


def overlapping(tokens: int, limit: int) -> list[_Range]:
    """Cover a text with stretches of ``limit`` tokens, evenly placed, that overlap by at least a sixteenth.

    Arguments and result as for :func:`side_by_side`.
    """
    if tokens <= limit:
        return [(0, tokens)]
    overlap = limit // _OVERLAP
    more = -(-(tokens - limit) // (limit - overlap))  # stretches after the first
    starts = [i * (tokens - limit) // more for i in range(more + 1)]
    return [(start, start + limit) for start in starts]


def for_texts(contents: Sequence[Content], limit: int) -> list[Stretch]:
    """Stretches for one vector a text: side by side, each with one part, which is all of it."""
    found = []
    for text, content in enumerate(contents):
        tokens = len(content.ids)
        for first, stop in side_by_side(tokens, limit):
            part = Part(text, 0, stop - first, (stop - first) / tokens)
            found.append(Stretch(text, first, Content(content.ids[first:stop]), (part,)))
    return found


def for_tokens(contents: Sequence[Content], limit: int) -> list[Stretch]:
    """Stretches for one vector a token: each token is a part of the one where it has most context on both sides."""
    found = []
    for text, content in enumerate(contents):
        ranges = overlapping(len(content.ids), limit)
        for stretch, first, stop in _shared_out(ranges, 0, len(content.ids)):
            start, end = ranges[stretch]
            part = Part(text, first - start, stop - start)
            found.append(Stretch(text, start, Content(content.ids[start:end]), (part,)))
    return found


def for_chunks(contents: Sequence[Content], limit: int, stand_in: int) -> list[Stretch]:
    """Stretches for one vector a chunk.

    A chunk is taken from the stretch where it has most context on both sides: where the lesser number of tokens before
    and behind it is greatest, and where the text begins or ends counts as enough. A chunk that no stretch holds as a
    whole is taken in parts, each of its tokens from the stretch where that token has most context. Stretches of which
    nothing is taken are left out. A chunk without tokens is read as an empty text.

    Args:
        contents: the texts, with the tokens of each chunk.
        limit: the most tokens of a stretch.
        stand_in: the token that an empty text becomes.

    Returns:
        The stretches; ``Part.of`` counts the chunks of all texts together.
    """
    found, chunks = [], 0
    for text, content in enumerate(contents):
        stretches = overlapping(len(content.ids), limit)
        parts: list[list[Part]] = [[] for _ in stretches]
        empty = []
        for chunk, (first, stop) in enumerate(content.chunks, start=chunks):
            if first == stop:
                empty.append(Part(chunk, 0, 1))
            for stretch, start, end in _taken(stretches, first, stop):
                begin, share = stretches[stretch][0], (end - start) / (stop - first)
                parts[stretch].append(Part(chunk, start - begin, end - begin, share))
        for (start, end), own in zip(stretches, parts, strict=True):
            if own:
                found.append(Stretch(text, start, Content(content.ids[start:end]), tuple(own)))
        if empty:
            found.append(Stretch(text, 0, Content(np.array([stand_in], dtype=np.int64)), tuple(empty)))
        chunks += len(content.chunks)
    return found


def _taken(stretches: Sequence[_Range], first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """From which stretch each token of a chunk is taken: ``(stretch, first token, last-plus-one token)``."""
    if first == stop:
        return
    end = stretches[-1][1]
    holding = [i for i, (a, b) in enumerate(stretches) if a <= first and stop <= b]
    if not holding:
        yield from _shared_out(stretches, first, stop)
        return

    def context(i: int) -> int:
        before, behind = first - stretches[i][0], stretches[i][1] - stop
        return min(before if stretches[i][0] else end, behind if stretches[i][1] < end else end)

    yield max(holding, key=context), first, stop


def _shared_out(stretches: Sequence[_Range], first: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """As :func:`_taken`, by tokens: neighbouring stretches share what both have, each the half on its side."""
    middles = [(behind[0] + before[1]) // 2 for before, behind in pairwise(stretches)]
    for i, (start, end) in enumerate(zip([0, *middles], [*middles, stretches[-1][1]], strict=True)):
        if max(start, first) < min(end, stop):
            yield i, max(start, first), min(end, stop)
