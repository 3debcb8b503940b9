"""A compiled template: which token ids stand before, between and behind the copies of a text, and where each copy is.

A layout knows token ids and positions only: no tokenizer, no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "Ids", "Layout"]

#: Token ids or positions of one text: int64 ``[n]``.
Ids = NDArray[np.int64]
#: How many content tokens one text has, or each of several texts.
Counts = TypeVar("Counts", int, Ids)


@dataclass(frozen=True)
class Content:
    """The token ids of one text, before they are laid into a template.

    Attributes:
        ids: int64 ``[n]``, from one token up to the limit; all tokens where the text is read in stretches.
        truncated: how many tokens of the text were left out because of the limit.
        chunks: first and last-plus-one token of each chunk; an empty range for a chunk without tokens.
    """

    ids: Ids
    truncated: int = 0
    chunks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Layout:
    """The token ids of a template, with a gap for each copy of a text of ``n`` tokens.

    Args:
        literals: ``copies + 1`` tuples of ids: before the first copy, between two copies, behind the last one.
        pool_tail: whether the ids behind the last copy are pooled together with it.
        only_last: whether only the last one of the pooled tokens is needed.
    """

    literals: tuple[tuple[int, ...], ...]
    pool_tail: bool = False
    only_last: bool = False

    @property
    def copies(self) -> int:
        """How often the text stands in the sequence."""
        return len(self.literals) - 1

    @property
    def overhead(self) -> int:
        """Number of tokens of the template itself."""
        return sum(map(len, self.literals))

    def without_prefix(self) -> Layout:
        """The same layout without the ids before the first copy."""
        return replace(self, literals=((), *self.literals[1:]))

    def total(self, n: Counts) -> Counts:
        """Number of tokens of the whole sequence, for a text of ``n`` tokens."""
        return self.overhead + self.copies * n

    def assemble(self, content: Ids) -> Ids:
        """The ids of the whole sequence, for a text with the ids ``content``."""
        parts: list[Ids | tuple[int, ...]] = [self.literals[0]]
        for literal in self.literals[1:]:
            parts += [content, literal]
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])

    def copy(self, index: int, n: Counts) -> slice:
        """The positions of one copy in the sequence; ``index`` 0 is the first copy, -1 the last."""
        index %= self.copies
        start = sum(map(len, self.literals[: index + 1])) + index * n
        return slice(start, start + n)

    def pooled(self, n: Counts) -> slice:
        """The positions that are pooled: the last copy, with ``pool_tail`` also what follows; or only the last one."""
        last = self.copy(-1, n)
        stop = self.total(n) if self.pool_tail else last.stop
        return slice(stop - 1 if self.only_last else last.start, stop)

    def first_pass(self, n: int) -> Ids:
        """The positions that late echo runs below ``start_layer``: all but the second and later copies."""
        keep = np.ones(self.total(n), dtype=bool)
        for index in range(1, self.copies):
            keep[self.copy(index, n)] = False
        return keep.nonzero()[0]

    def expansion(self, n: int) -> Ids:
        """For each position of the sequence, the index into ``first_pass`` whose hidden state is copied there."""
        source = np.empty(self.total(n), dtype=np.int64)
        first = self.first_pass(n)
        source[first] = np.arange(len(first))
        for index in range(1, self.copies):
            source[self.copy(index, n)] = source[self.copy(0, n)]
        return source
