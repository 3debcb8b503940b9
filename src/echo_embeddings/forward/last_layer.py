"""In the last layer that runs, only what is pooled is computed: nothing reads the rest.

Tokens before the first that is pooled attend to nothing, where attention is ours, and only pooled ones go through the
feed-forward block.
"""

from __future__ import annotations

import copy
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .speed import block_attention

if TYPE_CHECKING:
    from .late_echo import Plan

__all__ = ["pooled_only"]

#: Above this share of pooled tokens picking them costs more than it saves.
_MOST = 0.8


def pooled_only(layer: nn.Module, plan: Plan) -> nn.Module:
    """A view of a decoder layer that spares the tokens that are not pooled. The layer's parameters are shared.

    Its feed-forward block does so only if it is a plain one called ``mlp``: a mixture of experts, say, may return more.
    """
    view = copy.copy(layer)
    view._compiled_call_impl = None  # it would run the layer itself
    block = getattr(layer, "mlp", None)
    if isinstance(block, nn.Module) and type(block).__name__.endswith("MLP"):
        view._modules = {**layer._modules, "mlp": _PooledOnly(block, plan)}
    run = view.forward

    @wraps(run)  # late echo reads its signature
    def forward(*args: Any, **kwargs: Any) -> Any:
        with block_attention.wanted_from(_first_pooled(plan.batch.pooled)):
            return run(*args, **kwargs)

    view.__dict__["forward"] = forward
    return view


def _first_pooled(pooled: Tensor) -> int:
    """The first place at which a sequence has a pooled token; 0 on a GPU, where attention is not ours."""
    return int(pooled.any(dim=0).int().argmax()) if pooled.device.type == "cpu" else 0


class _PooledOnly(nn.Module):
    """A block that treats every token by itself, shown the pooled ones; the others get zero."""

    def __init__(self, block: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.block = block
        self._plan = plan

    def forward(self, hidden: Tensor) -> Tensor:
        places, tokens = self._plan.batch.pooled_places().to(hidden.device), hidden.flatten(0, 1)
        if len(places) > _MOST * len(tokens):
            out: Tensor = self.block(hidden)
            return out
        states: Tensor = self.block(tokens.index_select(0, places).unsqueeze(0)).squeeze(0)
        # Not in place: in training the gradient goes through here.
        return torch.zeros_like(tokens).index_copy(0, places, states).view_as(hidden)
