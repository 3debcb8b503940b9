"""In the last layer that runs, only pooled tokens are computed, because nothing reads the others.

Only pooled tokens go through its feed-forward block. Where attention is ours, tokens before the first pooled one do
not attend either (``speed/block_attention``, which asks :class:`~.running.RunningPass`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from echo_embeddings.model.architecture import with_parts

from .running import current

__all__ = ["pooled_only"]

#: Above this share of pooled tokens, selecting them costs more than it saves.
_MOST = 0.8


def pooled_only(layer: nn.Module) -> nn.Module:
    """A view of a decoder layer that leaves out tokens that are not pooled. The layer's parameters are shared.

    Its feed-forward block does so only if it is a plain one called ``mlp``: a mixture of experts, for example, may
    return more than one tensor.
    """
    block = getattr(layer, "mlp", None)
    if isinstance(block, nn.Module) and type(block).__name__.endswith("MLP"):
        return with_parts(layer, {"mlp": _PooledOnly(block)})
    return with_parts(layer, {})


class _PooledOnly(nn.Module):
    """A block that treats every token by itself, run on the pooled ones; the others get zero."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: Tensor) -> Tensor:
        now = current()
        tokens = hidden.flatten(0, 1)
        places = None if now is None else now.batch.pooled_places().to(hidden.device)
        if places is None or len(places) > _MOST * len(tokens):
            out: Tensor = self.block(hidden)
            return out
        states: Tensor = self.block(tokens.index_select(0, places).unsqueeze(0)).squeeze(0)
        # Not in place: in training the gradient goes through here.
        return torch.zeros_like(tokens).index_copy(0, places, states).view_as(hidden)
