"""Late echo inside a model's own forward pass: layers that see the first pass only, and the one where copies appear.

The model prepares everything (masks, rotary angles) for the whole sequence. These wrappers pick from it what belongs to
the tokens that run, so each architecture's own way of preparing stays in force. They know no tokenizer and no template.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from echo_embeddings.errors import ModelError

from .last_layer import pooled_only

if TYPE_CHECKING:
    from .backbone import Batch

__all__ = ["Plan", "wrap"]

# What a decoder layer of transformers may be given. A layer that wants more (per-layer inputs, a recurrent state) may
# depend on the tokens in ways that cannot be narrowed here.
_LAYER_ARGUMENTS = frozenset(
    (
        "attention_mask",
        "cache_position",
        "encoder_attention_mask",
        "encoder_hidden_states",
        "head_mask",
        "hidden_states",
        "kwargs",
        "layer_past",
        "output_attentions",
        "past_key_value",
        "past_key_values",
        "position_embeddings",
        "position_ids",
        "use_cache",
    )
)


def wrap(layers: Sequence[nn.Module], start: int, plan: Plan) -> nn.ModuleList:
    """Decoder layers with those up to ``start`` wrapped, and the last; the layers themselves are shared, not changed.

    Raises:
        ModelError: a layer takes arguments that late echo does not know how to narrow.
    """
    _require_common_layers(layers[: start + 1])
    layers = [*layers[:-1], pooled_only(layers[-1], plan)]
    narrowed = [_NarrowLayer(layer, plan, is_first=i == 0) for i, layer in enumerate(layers[:start])]
    return nn.ModuleList([*narrowed, _ExpandLayer(layers[start], plan), *layers[start + 1 :]])


class Plan:
    """The batch that is running, for the layers that need to know it."""

    def __init__(self) -> None:
        self.end()

    def begin(self, batch: Batch) -> None:
        """A pass over ``batch`` starts."""
        self._batch: Batch | None = batch
        self._narrowed: dict[int, tuple[Any, Any]] = {}

    def end(self) -> None:
        """The pass is over."""
        self._batch, self._narrowed = None, {}

    @property
    def batch(self) -> Batch:
        """The batch of the running pass."""
        if self._batch is None:
            raise RuntimeError("this model is prepared for late echo and runs inside a Backbone only")
        return self._batch

    def narrow(self, name: str, value: Any) -> Any:
        """``value`` for the tokens of the first pass; done once a pass, because all layers share it."""
        if value is None:
            return None
        key = id(value)
        if key not in self._narrowed:
            # The original is kept beside the result so that its id cannot be given to another tensor.
            self._narrowed[key] = (value, _NARROW[name](value, self.batch.first_pass))
        return self._narrowed[key][1]


class _NarrowLayer(nn.Module):
    """A decoder layer below ``start_layer``: it sees the first pass only."""

    def __init__(self, layer: nn.Module, plan: Plan, *, is_first: bool) -> None:
        super().__init__()
        self.layer = layer
        self._plan, self._is_first = plan, is_first
        self._signature = inspect.signature(layer.forward)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        extra = bound.arguments.get("kwargs", {})
        for name in _NARROW:
            for arguments in (bound.arguments, extra):
                if name in arguments:
                    arguments[name] = self._plan.narrow(name, arguments[name])
        if self._is_first:
            hidden = bound.arguments["hidden_states"]
            bound.arguments["hidden_states"] = _take_tokens(hidden, self._plan.batch.first_pass)
        return self.layer(*bound.args, **bound.kwargs)

    def __getattr__(self, name: str) -> Any:
        # Models read attributes such as `attention_type` off their layers.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class _ExpandLayer(_NarrowLayer):
    """The decoder layer at ``start_layer``: here the copies appear."""

    def __init__(self, layer: nn.Module, plan: Plan) -> None:
        super().__init__(layer, plan, is_first=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        hidden = bound.arguments["hidden_states"]
        bound.arguments["hidden_states"] = _take_tokens(hidden, self._plan.batch.expansion)
        return self.layer(*bound.args, **bound.kwargs)


def _take_tokens(states: Tensor, index: Tensor) -> Tensor:
    """``states[batch or 1, tokens, ...]`` at ``index[rows, kept]`` of the token axis."""
    index = index.to(states.device)
    if len(index) == 1:
        return states.index_select(1, index[0])
    states = states.expand(len(index), *states.shape[1:])
    return states.gather(1, index.view(*index.shape, *[1] * (states.ndim - 2)).expand(*index.shape, *states.shape[2:]))


def _take_mask(mask: Any, index: Tensor) -> Tensor:
    """An attention mask ``[batch or 1, heads or 1, tokens, tokens]`` at ``index`` of both token axes."""
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
    """Where the sequences of a packed row end (:mod:`.packing`), among its tokens at ``index``, which rises."""
    return torch.searchsorted(index[0], ends, out_int32=True)


_NARROW: Mapping[str, Callable[[Any, Tensor], Any]] = {
    "attention_mask": _take_mask,
    "position_embeddings": _take_angles,
    "position_ids": _take_tokens,
    "cache_position": lambda positions, index: positions[index[0]],
    "cu_seq_lens_q": _take_ends,
    "cu_seq_lens_k": _take_ends,
}


def _require_common_layers(stack: Sequence[nn.Module]) -> None:
    for layer in stack:
        names = set(inspect.signature(layer.forward).parameters)
        if "hidden_states" not in names or names - _LAYER_ARGUMENTS:
            unknown = ", ".join(sorted(names - _LAYER_ARGUMENTS)) or "no hidden_states"
            raise ModelError(
                f"late echo does not know how to run {type(layer).__name__} (its arguments: {unknown}); "
                "use start_layer=0, which works for every causal model"
            )
