"""What is taken from the last copy of a text: one vector for the text, or one for each token.

Both take the same way through batches; spans of tokens will be a third readout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.pooling import POOLINGS, pool_packed, rows_of

__all__ = ["Readout", "Take", "pooled_state", "token_states"]

#: ``"text"``: one vector a text. ``"tokens"``: one vector a token.
Readout = Literal["text", "tokens"]
#: Hidden states ``[batch, tokens, dim]`` of a batch to what is kept of each sequence, ``[batch, ...]`` in float32.
Take = Callable[[Tensor, Batch], Tensor]


def pooled_state(pooling: str) -> Take:
    """The pooled state of each sequence, ``[batch, dim]``, by the config's pooling."""
    pool = POOLINGS[pooling]

    def take(hidden: Tensor, batch: Batch) -> Tensor:
        if batch.lengths:
            return pool_packed(pool, hidden, batch.pooled_places(), batch.counts)
        return pool(hidden, batch.pooled.to(hidden.device))

    return take


def token_states(hidden: Tensor, batch: Batch) -> Tensor:
    """The states of what is pooled, token by token: ``[batch, most, dim]``, padded on the right."""
    if batch.lengths:
        return rows_of(hidden, batch.pooled_places(), batch.counts)[0].float()
    pooled = batch.pooled.to(hidden.device)
    most = int(pooled.sum(dim=1).max())
    # What is pooled stands in one piece: the last copy, or the last copy and all behind it.
    first = pooled.int().argmax(dim=1, keepdim=True)
    places = (first + torch.arange(most, device=hidden.device)).clamp(max=hidden.shape[1] - 1)
    return hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, hidden.shape[2])).float()
