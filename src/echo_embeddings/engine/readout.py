"""Choose what is kept of a text's last copy: one vector for the text, or one vector for each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.pooling import POOLINGS, pool_packed, rows_of

__all__ = ["Readout", "Take", "pooled_state", "token_states"]

#: ``"text"``: one vector for each text. ``"tokens"``: one vector for each content token.
Readout = Literal["text", "tokens"]
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
