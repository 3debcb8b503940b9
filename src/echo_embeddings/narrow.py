"""In the last layer that runs, only what is pooled goes through the feed-forward block: nothing reads the rest."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .late_echo import Plan

__all__ = ["pooled_only"]

#: Above this share of pooled tokens picking them costs more than it saves.
_MOST = 0.8


def pooled_only(layer: nn.Module, plan: Plan) -> nn.Module:
    """A view of a decoder layer whose feed-forward block skips the tokens that are not pooled.

    The layer's parameters are shared. A layer without a plain block called ``mlp`` is returned as it is: a mixture of
    experts, say, may return more than states.
    """
    block = getattr(layer, "mlp", None)
    if not isinstance(block, nn.Module) or not type(block).__name__.endswith("MLP"):
        return layer
    view = copy.copy(layer)
    view._modules = {**layer._modules, "mlp": _PooledOnly(block, plan)}
    view._compiled_call_impl = None  # it would run the layer itself
    return view


class _PooledOnly(nn.Module):
    """A block that treats every token by itself, shown the pooled ones; the others get zero."""

    def __init__(self, block: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.block = block
        self._plan = plan

    def forward(self, hidden: Tensor) -> Tensor:
        pooled = self._plan.batch.pooled.to(hidden.device)
        if pooled.sum() > _MOST * pooled.numel():
            out: Tensor = self.block(hidden)
            return out
        states: Tensor = self.block(hidden[pooled].unsqueeze(0)).squeeze(0)
        # Not in place: in training the gradient goes through here.
        return torch.zeros_like(hidden).masked_scatter(pooled.unsqueeze(-1), states)
