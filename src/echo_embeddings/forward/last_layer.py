"""Compute only pooled tokens in the last layer that runs, because nothing uses the others.

Only pooled tokens go through its feed-forward block. With block attention, the tokens before the first pooled one are
left out of attention too (``speed/block_attention``, which asks :class:`~.running.RunningPass`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from echo_embeddings.model.architecture import with_parts

from .running import current

__all__ = ["pooled_only"]

#: If more than this share of the tokens is pooled, selecting them costs more time than it saves.
_MOST = 0.8


def pooled_only(layer: nn.Module) -> nn.Module:
    """A view of a decoder layer that leaves out tokens that are not pooled. The layer's parameters are shared.

    Only a plain feed-forward block with the name ``mlp`` is exchanged: a mixture of experts, for example, may return
    more than one tensor.
    """
    block = getattr(layer, "mlp", None)
    if isinstance(block, nn.Module) and type(block).__name__.endswith("MLP"):
        return with_parts(layer, {"mlp": _PooledOnly(block)})
    return with_parts(layer, {})


class _PooledOnly(nn.Module):
    """Run a block on the pooled tokens only; the others get zero. The block must treat each token by itself."""

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
        # Not in place, because in training the gradient flows through this.
        return torch.zeros_like(tokens).index_copy(0, places, states).view_as(hidden)
