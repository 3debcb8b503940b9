"""Late echo inside a model's own forward pass: wrap the layers below the copy, and the layer that makes the copy.

The model prepares everything (masks, rotary angles) for the whole sequence, in the way of its architecture. The
wrappers then select the part that belongs to the tokens that run. They know no tokenizer and no template.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from echo_embeddings.errors import ModelError
from echo_embeddings.model.architecture import require_common_layers

from .running import RunningPass, current

__all__ = ["wrap"]


def wrap(layers: Sequence[nn.Module], start: int) -> nn.ModuleList:
    """Wrap the decoder layers up to ``start``. The layers themselves are shared, not changed.

    Args:
        layers: all layers that run, in their order.
        start: the layer at which the copies appear, at least 1.

    Raises:
        ModelError: a layer takes arguments that late echo does not know how to narrow.
    """
    require_common_layers(layers[: start + 1])
    narrowed = [_NarrowLayer(layer, is_first=i == 0) for i, layer in enumerate(layers[:start])]
    return nn.ModuleList([*narrowed, _ExpandLayer(layers[start]), *layers[start + 1 :]])


class _NarrowLayer(nn.Module):
    """A decoder layer below ``start_layer``: it gets only the tokens of the first pass."""

    def __init__(self, layer: nn.Module, *, is_first: bool) -> None:
        super().__init__()
        self.layer = layer
        self._is_first = is_first
        self._signature = inspect.signature(layer.forward)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        now = _running()
        bound = self._signature.bind(*args, **kwargs)
        extra = bound.arguments.get("kwargs", {})
        for name in _NARROW:
            for arguments in (bound.arguments, extra):
                if arguments.get(name) is not None:
                    arguments[name] = _narrowed(name, arguments[name], now)
        if self._is_first:
            hidden = bound.arguments["hidden_states"]
            bound.arguments["hidden_states"] = _take_tokens(hidden, now.batch.first_pass)
        return self.layer(*bound.args, **bound.kwargs)

    def __getattr__(self, name: str) -> Any:
        # Some models use attributes of their layers, such as `attention_type`.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class _ExpandLayer(_NarrowLayer):
    """The decoder layer at ``start_layer``: before it runs, the copies are made."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer, is_first=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        hidden = bound.arguments["hidden_states"]
        bound.arguments["hidden_states"] = _take_tokens(hidden, _running().batch.expansion)
        return self.layer(*bound.args, **bound.kwargs)


def _running() -> RunningPass:
    if (now := current()) is None:
        raise RuntimeError("this model is prepared for late echo and runs inside a Backbone only")
    return now


def _narrowed(name: str, value: Any, now: RunningPass) -> Any:
    """An argument of a layer, reduced to the tokens of the first pass."""
    return now.once(value, lambda whole: _NARROW[name](whole, now.batch.first_pass))


def _take_tokens(states: Tensor, index: Tensor) -> Tensor:
    """Select tokens from ``states[batch or 1, tokens, ...]`` by ``index[batch or 1, kept]``."""
    index = index.to(states.device)
    if len(index) == 1:
        return states.index_select(1, index[0])
    states = states.expand(len(index), *states.shape[1:])
    return states.gather(1, index.view(*index.shape, *[1] * (states.ndim - 2)).expand(*index.shape, *states.shape[2:]))


def _take_mask(mask: Any, index: Tensor) -> Tensor:
    """Select by ``index`` from both token axes of a mask ``[batch or 1, heads or 1, tokens, tokens]``."""
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        raise ModelError(
            f"late echo cannot narrow an attention mask of type {type(mask).__name__}; load the model with "
            "model_kwargs={'attn_implementation': 'sdpa'} (or 'eager'), or use start_layer=0"
        )
    by_query = _take_tokens(mask.transpose(1, 2), index).transpose(1, 2)
    return _take_tokens(by_query.permute(0, 3, 1, 2), index).permute(0, 2, 3, 1)


def _take_angles(embeddings: Any, index: Tensor) -> tuple[Tensor, ...]:
    return tuple(_take_tokens(part, index) for part in embeddings)


def _take_ends(ends: Tensor, index: Tensor) -> Tensor:
    """Where the sequences of a packed row end, counted in the tokens at ``index`` only. ``index`` must be sorted."""
    return torch.searchsorted(index[0], ends, out_int32=True)


_NARROW: Mapping[str, Callable[[Any, Tensor], Any]] = {
    "attention_mask": _take_mask,
    "position_embeddings": _take_angles,
    "position_ids": _take_tokens,
    "cache_position": lambda positions, index: positions[index[0]],
    "cu_seq_lens_q": _take_ends,
    "cu_seq_lens_k": _take_ends,
}
