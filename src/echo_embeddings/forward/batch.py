"""A batch: token ids of several sequences, and where in them things stand. Knows no model and no text.

Sequences are padded on the right and run without a padding mask: under causal attention no token sees behind itself.
Or they stand one behind the other in a single row, where attention can keep them apart (``packed``).
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
    """Padded sequences and where things stand in them.

    Attributes:
        ids: ``[batch, tokens]`` token ids, right-padded with 0.
        pooled: ``[batch, tokens]``, true where a token is pooled.
        first_pass: ``[batch or 1, kept]`` positions that run below ``start_layer``; one row where all rows agree.
        expansion: ``[batch or 1, tokens]`` indices into ``first_pass``.
        lengths: of the sequences that stand behind each other in one row; empty where each has a row of its own.
        counts: of pooled tokens of each of these sequences.
        places: ``[pooled tokens]`` indices into all tokens of the batch; if ``None``, they are looked for.
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
        """Lay texts' content ids into a compiled template, one behind the other in a single row."""
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
        # Of each token, which of those kept its state comes from where the copies appear.
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
        """Lay texts' content ids into a compiled template and pad them."""
        lengths = [len(content) for content in contents]
        tokens = layout.total(max(lengths))
        pooled = np.zeros((len(contents), tokens), dtype=bool)
        for row, n in enumerate(lengths):
            pooled[row, layout.pooled(n)] = True
        # Texts of one length have one plan; otherwise every row has its own.
        planned = lengths[:1] if len(set(lengths)) == 1 else lengths
        kept = len(layout.first_pass(max(lengths)))
        # In the first pass padding comes from behind the sequence, where no real token looks; what the padding of the
        # expansion starts from does not matter, for the same reason.
        first = [np.concatenate([layout.first_pass(n), np.arange(layout.total(n), tokens)])[:kept] for n in planned]
        arrays = (
            _padded([layout.assemble(content) for content in contents], tokens),
            pooled,
            np.stack(first),
            _padded([layout.expansion(n) for n in planned], tokens),
            np.flatnonzero(pooled),
        )
        ids, where, first_pass, expansion, places = (sent(array, device) for array in arrays)
        return cls(ids, where, first_pass, expansion, places=places)

    def pooled_places(self) -> Int[Tensor, " places"]:
        """Where, of all tokens of the batch, those stand that are pooled."""
        return self.pooled.flatten().nonzero().squeeze(1) if self.places is None else self.places


def spans(starts: Ids, counts: Ids) -> Ids:
    """Of runs of so many numbers that begin at these ones, all numbers in a row: of 3, 8 and 2, 3, 3 4 8 9 10."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1])


def _padded(rows: Sequence[Ids], width: int) -> Ids:
    """Rows padded on the right with 0."""
    out = np.zeros((len(rows), width), dtype=np.int64)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out
