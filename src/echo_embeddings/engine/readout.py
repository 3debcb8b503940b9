"""Choose what is kept of a text's last copy: one vector for the text, for each of its tokens, or for each chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from echo_embeddings.forward.batch import Batch, spans
from echo_embeddings.forward.pooling import POOLINGS, pool_packed, rows_of
from echo_embeddings.forward.transfer import sent
from echo_embeddings.text.layout import Layout
from echo_embeddings.text.stretches import Stretch

__all__ = ["Readout", "Take", "part_states", "pooled_state", "token_states"]

#: ``"text"``: one vector for each text. ``"tokens"``: one vector for each content token. ``"chunks"``: one vector for
#: each chunk of a text.
Readout = Literal["text", "tokens", "chunks"]
#: Turns the hidden states of a batch, ``[batch, tokens, dim]``, into what is kept: float32 ``[batch, ...]``.
Take = Callable[[Tensor, Batch], Tensor]


def pooled_state(pooling: str) -> Take:
    """A function that pools each sequence's last copy: float32 ``[batch, dim]``.

    Args:
        pooling: a name in ``POOLINGS``, such as ``"mean"``.
    """
    pool = POOLINGS[pooling]

    def take(hidden: Tensor, batch: Batch) -> Tensor:
        if batch.lengths:
            return pool_packed(pool, hidden, batch.pooled_places(), batch.counts)
        return pool(hidden, batch.pooled.to(hidden.device))

    return take


def token_states(hidden: Tensor, batch: Batch) -> Tensor:
    """The states of the pooled tokens: float32 ``[batch, most, dim]``, padded on the right."""
    if batch.lengths:
        return rows_of(hidden, batch.pooled_places(), batch.counts)[0].float()
    pooled = batch.pooled.to(hidden.device)
    most = int(pooled.sum(dim=1).max())
    # The pooled tokens are contiguous: the last copy, or the last copy and all tokens after it.
    first = pooled.int().argmax(dim=1, keepdim=True)
    places = (first + torch.arange(most, device=hidden.device)).clamp(max=hidden.shape[1] - 1)
    return hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, hidden.shape[2])).float()


def part_states(pooling: str, stretches: Sequence[Stretch], layout: Layout) -> Take:
    """A function that pools each part of these stretches by itself: float32 ``[parts, dim]``, in their order.

    Token states stay on their device and are kept for one batch only.

    Args:
        pooling: as for :func:`pooled_state`.
        stretches: the sequences of the batch, in their order.
        layout: what they are laid into.
    """
    pooled = layout.pooled(np.array([len(stretch.content.ids) for stretch in stretches]))
    tokens = pooled.stop - pooled.start
    before = np.cumsum(tokens) - tokens  # pooled tokens of the sequences before each
    pairs = [
        (before[row] + part.first, part.stop - part.first) for row, one in enumerate(stretches) for part in one.parts
    ]
    firsts, counts = (np.array(numbers, dtype=np.int64) for numbers in zip(*pairs, strict=True))

    def take(hidden: Tensor, batch: Batch) -> Tensor:
        places = batch.pooled_places().to(hidden.device)
        own = places.index_select(0, sent(spans(firsts, counts), hidden.device))
        return pool_packed(POOLINGS[pooling], hidden.flatten(0, 1)[None], own, counts.tolist())

    return take
