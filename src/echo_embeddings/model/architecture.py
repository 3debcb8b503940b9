"""What we know about architectures: where the decoder layers are, how far they look back, whether they are causal.

A model with other layers is returned as a view: a shallow copy that shares every parameter. The model is not changed.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from echo_embeddings.errors import ModelError

__all__ = [
    "attends_only",
    "cache_argument",
    "drop_layers_above",
    "has_layers",
    "is_compiled",
    "is_windowed",
    "layers_of",
    "narrowest_view",
    "require_causal",
    "require_common_layers",
    "require_decoder",
    "require_late_echo",
    "with_layers",
    "with_parts",
]

# The arguments of a decoder layer that we know. A layer with others (per-layer inputs, a recurrent state) may depend on
# tokens in ways that cannot be narrowed here.
_LAYER_ARGUMENTS = frozenset(
    (
        "attention_mask",
        "cache",
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
# Kinds of layers that attend to tokens, as configs call them. Those with a state (linear attention, state spaces) get
# another kind of mask, which late echo cannot narrow.
_ATTENDING = frozenset({"full_attention", "sliding_attention"})

_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f")


def drop_layers_above(model: PreTrainedModel, exit_layer: int) -> PreTrainedModel:
    """A view of a model without the layers above ``exit_layer``. Its config has that number of layers too.

    Raises:
        ModelError: the layers cannot be found.
    """
    path, attribute = _find_layers(model)
    chain = _chain(model, path)
    setattr(chain[-1], attribute, nn.ModuleList(list(getattr(chain[-1], attribute))[:exit_layer]))
    old, new = model.config, copy.deepcopy(model.config)
    _shorten(new.get_text_config(), exit_layer)
    renewed = {id(old): new, id(old.get_text_config()): new.get_text_config()}
    for module in chain:
        if id(config := getattr(module, "config", None)) in renewed:
            module.config = renewed[id(config)]
    view: PreTrainedModel = chain[0]
    return view


def with_layers(
    model: PreTrainedModel, change: Callable[[nn.ModuleList], nn.ModuleList], *, final_norm: bool
) -> PreTrainedModel:
    """A view of a model with a changed list of decoder layers, and without the final norm if that is ``False``.

    Raises:
        ModelError: the layers, or the norm to remove, cannot be found.
    """
    path, attribute = _find_layers(model)
    chain = _chain(model, path)
    owner = chain[-1]
    setattr(owner, attribute, change(getattr(owner, attribute)))
    if not final_norm:
        setattr(owner, _final_norm(owner), nn.Identity())
    view: PreTrainedModel = chain[0]
    return view


def with_parts(layer: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    """A view of a layer with some of its direct submodules exchanged. It is not compiled, even if ``layer`` is."""
    view: nn.Module = _shallow(layer)
    view._compiled_call_impl = None  # it would run the layer itself
    view._modules.update(parts)
    return view


def has_layers(model: PreTrainedModel) -> bool:
    """Whether ``layers_of`` can find the decoder layers."""
    try:
        return bool(layers_of(model))
    except ModelError:
        return False


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers of a model, in their order.

    Raises:
        ModelError: they cannot be found.
    """
    path, attribute = _find_layers(model)
    return list(getattr(model.get_submodule(path), attribute))


def final_norm_of(model: PreTrainedModel) -> nn.Module:
    """The norm behind the last decoder layer.

    Raises:
        ModelError: it cannot be found.
    """
    owner = model.get_submodule(_find_layers(model)[0])
    norm: nn.Module = getattr(owner, _final_norm(owner))
    return norm


def is_compiled(model: PreTrainedModel) -> bool:
    """Whether parts of a model are compiled, for example by ``compile_layers``."""
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in model.modules())


def attends_only(model: PreTrainedModel) -> bool:
    """Whether no layer keeps a state instead of attending to tokens, as far as the config says."""
    return set(getattr(model.config.get_text_config(), "layer_types", None) or ()) <= _ATTENDING


def is_windowed(model: PreTrainedModel) -> bool:
    """Whether some layers cannot see back to the first token (sliding-window attention)."""
    config = model.config.get_text_config()
    has_window = getattr(config, "sliding_window", None) is not None
    return has_window and bool(getattr(config, "use_sliding_window", True))


def narrowest_view(config: Any, start: int, exit_: int) -> int | None:
    """How many tokens back the copy sees, if *every* layer that runs it has a sliding window.

    Args:
        config: the text config of a model.
        start: the first layer that runs the copy.
        exit_: the layer after the last one that runs it.

    Returns:
        The size of the window in tokens; ``None`` if at least one of these layers sees everything.
    """
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * exit_
    return int(window) if all(kind == "sliding_attention" for kind in kinds[start:exit_]) else None


def cache_argument(model: PreTrainedModel) -> str:
    """The argument of a model that takes the keys and values of earlier tokens; transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def require_decoder(config: Any, name: str) -> None:
    """Refuse a model whose config says that it is not decoder-only; ``name`` is its name in the message.

    Raises:
        ModelError: it is a masked language model, or has an encoder and a decoder.
    """
    architectures = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False) or any("MaskedLM" in a for a in architectures):
        raise ModelError(_not_causal(name))


@torch.inference_mode()
def require_causal(model: PreTrainedModel) -> None:
    """Refuse a model whose first token sees later ones.

    The model runs on two sequences of four tokens that differ in the last token only. This is more reliable than a name
    or a flag in its config.

    Raises:
        ModelError: the state of the first token differs.
    """
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device)
    states = model(input_ids=ids, use_cache=False).last_hidden_state
    first = states[:, 0].float()
    if float((first[0] - first[1]).abs().max()) > torch.finfo(states.dtype).eps * float(first.abs().max()):
        raise ModelError(_not_causal(type(model).__name__))


def require_common_layers(stack: Sequence[nn.Module]) -> None:
    """Refuse layers that take arguments that late echo does not know how to narrow.

    Raises:
        ModelError: it names the layer and its arguments.
    """
    for layer in stack:
        names = set(inspect.signature(layer.forward).parameters)
        if "hidden_states" not in names or names - _LAYER_ARGUMENTS:
            unknown = ", ".join(sorted(names - _LAYER_ARGUMENTS)) or "no hidden_states"
            raise ModelError(
                f"late echo does not know how to run {type(layer).__name__} (its arguments: {unknown}); "
                "use start_layer=0, which works for every causal model"
            )


def require_late_echo(model: PreTrainedModel, start: int, attention: str | None = None) -> None:
    """Refuse a model for which late echo would fail. It is not run, and its weights may be on the device ``meta``.

    Args:
        model: the body of a causal model.
        start: the layer at which the copies appear.
        attention: the ``attn_implementation`` that it runs with; ``None`` for the one in its config.

    Raises:
        ModelError: its layers or its final norm cannot be found, are of a kind that we do not know, or get a mask that
            cannot be narrowed.
    """
    require_common_layers(layers_of(model)[: start + 1])
    final_norm_of(model)
    if not attends_only(model):
        kinds = sorted(set(model.config.get_text_config().layer_types) - _ATTENDING)
        raise ModelError(f"late echo does not know layers of the kind {kinds[0]!r}; use start_layer=0")
    if (attention or model.config.get_text_config()._attn_implementation) == "flex_attention":
        raise ModelError("late echo cannot narrow the masks of flex_attention; use 'sdpa', or start_layer=0")


def _find_layers(model: PreTrainedModel) -> tuple[str, str]:
    """The dotted name of the module that owns the list of decoder layers, and the name of the list in it."""
    depth = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            owner, _, attribute = name.rpartition(".")
            return owner, attribute
    raise ModelError(
        f"{type(model).__name__} has no list of {depth} decoder layers that can be found; only start_layer=0 with "
        "exit_layer=None works for it"
    )


def _chain(model: nn.Module, path: str) -> list[Any]:
    """Shallow copies of ``model`` and of its submodules along ``path``. Each copy contains the next."""
    chain = [_shallow(model)]
    for name in path.split(".") if path else []:
        child = _shallow(chain[-1]._modules[name])
        chain[-1]._modules[name] = child
        chain.append(child)
    return chain


def _shallow(module: Any) -> Any:
    view = copy.copy(module)
    view._modules = dict(module._modules)
    # With layers on several devices accelerate puts a method of its own into each module, bound to that module; a view
    # with it would run the module that it was copied from.
    for name in ("forward", "_old_forward"):
        bound = vars(module).get(name)
        if isinstance(bound, functools.partial) and bound.args and bound.args[0] is module:
            again = functools.partial(bound.func, view, *bound.args[1:], **bound.keywords)
            vars(view)[name] = functools.update_wrapper(again, bound)
        elif inspect.ismethod(bound) and bound.__self__ is module:
            vars(view)[name] = types.MethodType(bound.__func__, view)
    return view


def _shorten(config: Any, depth: int) -> None:
    """Change a model's config to that of its first ``depth`` layers."""
    for name, value in list(vars(config).items()):
        if (
            isinstance(value, list) and len(value) == config.num_hidden_layers
        ):  # one entry for each layer, as in layer_types
            setattr(config, name, value[:depth])
    config.num_hidden_layers = depth


def _final_norm(owner: nn.Module) -> str:
    for name in _FINAL_NORMS:
        if isinstance(getattr(owner, name, None), nn.Module):
            return name
    raise ModelError(
        f"{type(owner).__name__} has no final norm under a known name ({', '.join(_FINAL_NORMS)}); use exit_layer=None"
    )


def _not_causal(name: str) -> str:
    return (
        f"{name} is not a causal (decoder-only) language model: its tokens already see the whole text, so there is "
        "nothing for an echo to add. Use it with sentence-transformers, or choose a causal model such as "
        "HuggingFaceTB/SmolLM2-135M-Instruct"
    )
