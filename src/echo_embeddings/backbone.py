"""The causal language model, run over sequences that hold a text several times. A backbone knows no text.

With ``start_layer=0`` this is the model's own forward pass. With late echo the model still prepares a pass over the
whole sequence (embeddings, rotary angles, masks, each as its architecture wants them); layers below ``start_layer``
are shown only the tokens of the first pass, and at ``start_layer`` the copies appear as the first copy's hidden states.
So each token has one position, that of the paper's doubled sequence, in every layer.

Sequences are padded on the right and run without a padding mask: under causal attention no token sees what is behind it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from .config import Layers
from .errors import ModelError
from .tokenization import Layout

__all__ = ["Backbone", "Batch"]

# What a decoder layer of transformers may be given. A layer that wants more (per-layer inputs, a recurrent state) may
# depend on the tokens in ways that cannot be narrowed here.
_LAYER_ARGUMENTS = frozenset(
    "hidden_states attention_mask position_ids position_embeddings cache_position past_key_values past_key_value "
    "layer_past use_cache output_attentions encoder_hidden_states encoder_attention_mask head_mask kwargs".split()
)
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm")


@dataclass(frozen=True)
class Batch:
    """Padded sequences and where things stand in them.

    Attributes:
        ids: ``[batch, tokens]`` token ids, right-padded with 0.
        pooled: ``[batch, tokens]``, true where a token is pooled.
        first_pass: ``[batch or 1, kept]`` positions that run below ``start_layer``; one row where all rows agree.
        expansion: ``[batch or 1, tokens]`` indices into ``first_pass``.
    """

    ids: Int[Tensor, "batch tokens"]
    pooled: Bool[Tensor, "batch tokens"]
    first_pass: Int[Tensor, "rows kept"]
    expansion: Int[Tensor, "rows tokens"]

    @classmethod
    def of(cls, contents: Sequence[np.ndarray[Any, Any]], layout: Layout, device: torch.device | str) -> Batch:
        """Lay texts' content ids into a compiled template and pad them."""
        lengths = [len(content) for content in contents]
        tokens = layout.total(max(lengths))
        pooled = np.zeros((len(contents), tokens), dtype=bool)
        for row, n in enumerate(lengths):
            pooled[row, layout.pooled(n)] = True
        # Texts of one length have one plan; otherwise every row has its own.
        planned = lengths[:1] if len(set(lengths)) == 1 else lengths
        kept = len(layout.first_pass(max(lengths)))
        arrays = (
            _padded([layout.assemble(content) for content in contents], tokens, 0),
            pooled,
            # Padding repeats a real index: what it computes is finite and nobody sees it.
            _padded([layout.first_pass(n) for n in planned], kept, None),
            _padded([layout.expansion(n) for n in planned], tokens, None),
        )
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def _padded(rows: Sequence[np.ndarray[Any, Any]], width: int, fill: int | None) -> np.ndarray[Any, Any]:
    """Rows padded on the right with ``fill``, or with each row's own last value."""
    out = np.empty((len(rows), width), dtype=np.int64)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
        row[len(values) :] = values[-1] if fill is None else fill
    return out


class Backbone:
    """The layers of a decoder-only model up to ``layers.exit``, with the copy made at ``layers.start``.

    Args:
        model: the body of a decoder-only model (``AutoModel``). It is not changed: layers are shared, not copied.
        layers: resolved start and exit.

    Raises:
        ModelError: the architecture does not allow the layer choice.
    """

    def __init__(self, model: PreTrainedModel, layers: Layers) -> None:
        self.layers = layers
        #: The model without the layers above the exit, as it is saved.
        self.model = model if layers.exit == layers.depth else _cut(model, layers.exit)
        self._plan = _Plan()
        self._runner = self.model
        if layers.start > 0 or not layers.final_norm:
            self._runner = _adapted(self.model, layers, self._plan)

    @property
    def dimension(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the token ids go."""
        return self.model.get_input_embeddings().weight.device

    def __call__(self, batch: Batch) -> Float[Tensor, "batch tokens dim"]:
        """Hidden states at the exit, ``[batch, tokens, dim]``, in the model's dtype. Not to be called concurrently."""
        self._plan.begin(batch)
        try:
            hidden: Tensor = self._runner(input_ids=batch.ids, use_cache=False).last_hidden_state
        finally:
            self._plan.end()
        return hidden


class _Plan:
    """The batch that is running, for the layers that need to know it."""

    def __init__(self) -> None:
        self.end()

    def begin(self, batch: Batch) -> None:
        self._batch: Batch | None = batch
        self._narrowed: dict[int, tuple[Any, Any]] = {}

    def end(self) -> None:
        self._batch, self._narrowed = None, {}

    @property
    def batch(self) -> Batch:
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

    def __init__(self, layer: nn.Module, plan: _Plan, *, is_first: bool) -> None:
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

    def __init__(self, layer: nn.Module, plan: _Plan) -> None:
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


_NARROW = {
    "attention_mask": _take_mask,
    "position_embeddings": _take_angles,
    "position_ids": _take_tokens,
    "cache_position": lambda positions, index: positions[index[0]],
}


def _stack(model: nn.Module, depth: int) -> tuple[str, str]:
    """The dotted name of the module that owns the decoder layers, and the layers' name in it."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            owner, _, attribute = name.rpartition(".")
            return owner, attribute
    raise ModelError(
        f"{type(model).__name__} has no list of {depth} decoder layers that can be found; only start_layer=0 with "
        "exit_layer=None works for it"
    )


def _view(module: nn.Module, path: str) -> tuple[nn.Module, nn.Module]:
    """A shallow copy of ``module`` and the like copy of its submodule at ``path``; parameters are shared."""
    shallow = copy.copy(module)
    shallow._modules = dict(module._modules)
    if not path:
        return shallow, shallow
    head, _, rest = path.partition(".")
    child, target = _view(module.get_submodule(head), rest)
    shallow._modules[head] = child
    return shallow, target


def _cut(model: PreTrainedModel, exit_layer: int) -> PreTrainedModel:
    """The same model without the layers above ``exit_layer``, and with a config that says so."""
    depth = model.config.get_text_config().num_hidden_layers
    owner, attribute = _stack(model, depth)
    view, target = _view(model, owner)
    setattr(target, attribute, nn.ModuleList(list(getattr(target, attribute))[:exit_layer]))
    config = copy.deepcopy(model.config)
    text_config = config.get_text_config()
    per_layer = {k: v for k, v in vars(text_config).items() if isinstance(v, list) and len(v) == depth}
    for name, values in per_layer.items():
        setattr(text_config, name, values[:exit_layer])
    text_config.num_hidden_layers = exit_layer
    for module in {id(view): view, id(target): target}.values():
        module.config = config if module is view else text_config  # type: ignore[assignment]
    return view  # type: ignore[return-value]


def _adapted(model: PreTrainedModel, layers: Layers, plan: _Plan) -> PreTrainedModel:
    """The same model with wrapped layers up to ``start``, and without the final norm where it is not wanted."""
    owner, attribute = _stack(model, layers.exit)
    view, target = _view(model, owner)
    stack = list(getattr(target, attribute))
    if layers.start > 0:
        _require_common_layers(stack[: layers.start + 1])
        for i, layer in enumerate(stack[: layers.start]):
            stack[i] = _NarrowLayer(layer, plan, is_first=i == 0)
        stack[layers.start] = _ExpandLayer(stack[layers.start], plan)
        setattr(target, attribute, nn.ModuleList(stack))
    if not layers.final_norm:
        setattr(target, _final_norm(target), nn.Identity())
    return view  # type: ignore[return-value]


def _require_common_layers(stack: Sequence[nn.Module]) -> None:
    for layer in stack:
        names = set(inspect.signature(layer.forward).parameters)
        if "hidden_states" not in names or names - _LAYER_ARGUMENTS:
            unknown = ", ".join(sorted(names - _LAYER_ARGUMENTS)) or "no hidden_states"
            raise ModelError(
                f"late echo does not know how to run {type(layer).__name__} (its arguments: {unknown}); "
                "use start_layer=0, which works for every causal model"
            )


def _final_norm(owner: nn.Module) -> str:
    for name in _FINAL_NORMS:
        if isinstance(getattr(owner, name, None), nn.Module):
            return name
    raise ModelError(
        f"{type(owner).__name__} has no final norm under a known name ({', '.join(_FINAL_NORMS)}); use exit_layer=None"
    )
