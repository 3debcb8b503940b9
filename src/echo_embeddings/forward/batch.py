"""A batch: the token ids of several sequences, and the positions of what is pooled and copied. Knows no model, no text.

Either sequences are padded on the right and need no padding mask: under causal attention no token sees a later one. Or
they are packed: one after the other in a single row, for attention that can keep them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from echo_embeddings.text.layout import Ids, Layout

from .transfer import sent

__all__ = ["Batch", "spans"]


@dataclass(frozen=True)
class Batch:
    """Sequences, padded or packed, and the positions of what is pooled and copied.

    Attributes:
        ids: int64 ``[batch, tokens]``, token ids, padded on the right with 0; ``[1, tokens]`` if packed.
        pooled: bool ``[batch, tokens]``, true where a token is pooled.
        first_pass: int64 ``[batch or 1, kept]``, the positions that run below ``start_layer``; one row if it is the
            same for all sequences.
        expansion: int64 ``[batch or 1, tokens]``: which of the positions in ``first_pass`` gives each token its state
            at ``start_layer``.
        lengths: the number of tokens of each packed sequence; empty if the batch is padded.
        counts: the number of pooled tokens of each packed sequence; empty if the batch is padded.
        places: int64 ``[pooled tokens]``, where the pooled tokens are in the flattened batch; with ``None``,
            :meth:`pooled_places` finds them.
    """

    ids: Int[Tensor, "batch tokens"]
    pooled: Bool[Tensor, "batch tokens"]
    first_pass: Int[Tensor, "rows kept"]
    expansion: Int[Tensor, "rows tokens"]
    lengths: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    places: Int[Tensor, " places"] | None = None

    @classmethod
    def packed(cls, contents: Sequence[Ids], layout: Layout, device: torch.device | str) -> Batch:
        """Lay the content ids of texts into a compiled template, one after the other in a single row."""
        counts = np.array([len(content) for content in contents])
        lengths, pooled = layout.total(counts), layout.pooled(counts)
        starts = np.cumsum(lengths) - lengths
        first, *others = [spans(starts + layout.copy(i, counts).start, counts) for i in range(layout.copies)]
        row = np.empty(lengths.sum(), dtype=np.int64)
        pools, kept = np.zeros(len(row), dtype=bool), np.ones(len(row), dtype=bool)
        for i, literal in enumerate(layout.literals):
            before = starts + (layout.copy(i - 1, counts).stop if i else 0)
            row[before[:, None] + np.arange(len(literal))] = literal
        row[first] = np.concatenate(contents)
        for copy in others:
            row[copy], kept[copy] = row[first], False
        # For each token, which of the kept tokens its state is taken from at the layer where the copies appear.
        sources = np.cumsum(kept) - 1
        for copy in others:
            sources[copy] = sources[first]
        of_each = pooled.stop - pooled.start
        at = spans(starts + pooled.start, of_each)
        pools[at] = True
        arrays = (row[None], pools[None], kept.nonzero()[0][None], sources[None], at)
        ids, where, first_pass, expansion, places = (sent(array, device) for array in arrays)
        return cls(ids, where, first_pass, expansion, tuple(lengths.tolist()), tuple(of_each.tolist()), places)

    @classmethod
    def of(cls, contents: Sequence[Ids], layout: Layout, device: torch.device | str) -> Batch:
        """Lay the content ids of texts into a compiled template, a row for each text, and pad the rows."""
        lengths = [len(content) for content in contents]
        tokens = layout.total(max(lengths))
        pooled = np.zeros((len(contents), tokens), dtype=bool)
        for row, n in enumerate(lengths):
            pooled[row, layout.pooled(n)] = True
        # Texts of equal length have equal positions, so one row of them is enough; otherwise each text has its own.
        row_lengths = lengths[:1] if len(set(lengths)) == 1 else lengths
        kept = len(layout.first_pass(max(lengths)))
        # All rows keep equally many positions in the first pass, so shorter texts also keep some padding. No real token
        # sees it, because it comes after them. For the same reason the states that padding starts from do not matter.
        first = [np.concatenate([layout.first_pass(n), np.arange(layout.total(n), tokens)])[:kept] for n in row_lengths]
        arrays = (
            _padded([layout.assemble(content) for content in contents], tokens),
            pooled,
            np.stack(first),
            _padded([layout.expansion(n) for n in row_lengths], tokens),
            np.flatnonzero(pooled),
        )
        ids, where, first_pass, expansion, places = (sent(array, device) for array in arrays)
        return cls(ids, where, first_pass, expansion, places=places)

    def pooled_places(self) -> Int[Tensor, " places"]:
        """Where the pooled tokens are in the flattened batch: int64 ``[pooled tokens]``."""
        return self.pooled.flatten().nonzero().squeeze(1) if self.places is None else self.places


def spans(starts: Ids, counts: Ids) -> Ids:
    """Join runs of consecutive numbers: ``starts`` 3 and 8 with ``counts`` 2 and 3 give 3, 4, 8, 9, 10."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1])


def _padded(rows: Sequence[Ids], width: int) -> Ids:
    """Stack rows, padded on the right with 0."""
    out = np.zeros((len(rows), width), dtype=np.int64)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out
