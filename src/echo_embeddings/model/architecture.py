"""Views of a model with other layers: shallow copies that share every parameter and leave the model as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from echo_embeddings.errors import ModelError

__all__ = ["compiled", "cut", "has_layers", "layers_of", "with_layers"]

_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm")


def cut(model: PreTrainedModel, exit_layer: int) -> PreTrainedModel:
    """The same model without the layers above ``exit_layer``, and with a config that says so.

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
    """The same model with its list of decoder layers changed, and without the final norm if so wanted.

    Raises:
        ModelError: the layers, or the norm that shall go, cannot be found.
    """
    path, attribute = _find_layers(model)
    chain = _chain(model, path)
    owner = chain[-1]
    setattr(owner, attribute, change(getattr(owner, attribute)))
    if not final_norm:
        setattr(owner, _final_norm(owner), nn.Identity())
    view: PreTrainedModel = chain[0]
    return view


def has_layers(model: PreTrainedModel) -> bool:
    """Whether ``layers_of`` can find them."""
    try:
        return bool(layers_of(model))
    except ModelError:
        return False


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers themselves.

    Raises:
        ModelError: they cannot be found.
    """
    path, attribute = _find_layers(model)
    return list(getattr(model.get_submodule(path), attribute))


def compiled(model: PreTrainedModel) -> bool:
    """Whether parts of a model are compiled, as ``compile_layers`` does it."""
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in model.modules())


def _find_layers(model: PreTrainedModel) -> tuple[str, str]:
    """The dotted name of the module that owns the decoder layers, and the layers' name in it."""
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
    """Shallow copies of ``model`` and its submodules along ``path``, each holding the next."""
    chain = [_shallow(model)]
    for name in path.split(".") if path else []:
        child = _shallow(chain[-1]._modules[name])
        chain[-1]._modules[name] = child
        chain.append(child)
    return chain


def _shallow(module: Any) -> Any:
    view = copy.copy(module)
    view._modules = dict(module._modules)
    return view


def _shorten(config: Any, depth: int) -> None:
    """Make a model's config that of its first ``depth`` layers."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == config.num_hidden_layers:  # one entry a layer, as layer_types
            setattr(config, name, value[:depth])
    config.num_hidden_layers = depth


def _final_norm(owner: nn.Module) -> str:
    for name in _FINAL_NORMS:
        if isinstance(getattr(owner, name, None), nn.Module):
            return name
    raise ModelError(
        f"{type(owner).__name__} has no final norm under a known name ({', '.join(_FINAL_NORMS)}); use exit_layer=None"
    )
