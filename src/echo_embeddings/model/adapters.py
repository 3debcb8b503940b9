"""Merge LoRA adapters (arXiv 2106.09685) into the weights of a model: merged weights cost nothing at run time.

A plain adapter only adds ``alpha / r * B @ A`` to the weights of linear layers. It is merged here, without peft. Any
other adapter (DoRA, biases, whole modules, other ranks for some layers, adapted embeddings) is left to peft.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from echo_embeddings.config import presets
from echo_embeddings.errors import ModelError
from echo_embeddings.extras import from_checkout

from .hub import find_file, pinned
from .spec import ModelSpec

__all__ = ["is_plain", "load_adapted", "merge"]

_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# Fields of an adapter's config that do not change what is merged. Any other field that is set asks for more.
# fmt: off
_HARMLESS = frozenset((
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "r",
    "revision", "target_modules", "task_type", "use_rslora",
))
# fmt: on
_PLAIN = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": (True, False, "gaussian", "orthogonal")}


def load_adapted(name: str, adapters: Sequence[str], kwargs: dict[str, Any], *, quantised: bool) -> PreTrainedModel:
    """Load the body of a model and merge adapters into it, in the order given.

    Args:
        name: hub id or folder of the model.
        adapters: hub ids or folders of adapters.
        kwargs: keyword arguments of ``from_pretrained``.
        quantised: whether the weights are quantised. Adapters cannot be merged into such weights without loss, so peft
            runs them beside the weights.

    Raises:
        ModelError: an adapter does not exist, or does not fit the model.
        ImportError: an adapter needs peft, which is not installed.
    """
    plain = {adapter: None if quantised else _plain_lora(adapter) for adapter in adapters}
    with_head = any(found is None and _names_head(adapter) for adapter, found in plain.items())
    model = (AutoModelForCausalLM if with_head else AutoModel).from_pretrained(name, **kwargs)
    for adapter, found in plain.items():
        if found is None:
            model = _with_peft(model, adapter)
        else:
            merge(model.base_model, *found)
    body: PreTrainedModel = model.base_model
    return body


def is_plain(config: Mapping[str, Any], keys: Iterable[str]) -> bool:
    """Whether :func:`merge` can merge an adapter, given its config and the names of its tensors (``keys``)."""
    for name, value in config.items():
        if name in _PLAIN:
            if value not in _PLAIN[name]:
                return False
        elif value and name not in _HARMLESS:
            return False
    if config.get("peft_type") != "LORA":
        return False
    # The body has no head, so an adapter of the head is left to peft.
    return all((match := _KEY.fullmatch(key)) and not match[1].endswith("lm_head") for key in keys)


@torch.no_grad()
def merge(model: PreTrainedModel, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Add ``alpha / r * B @ A`` to the weights of a model's body, in place.

    The sum is computed in float32 and rounded once, to the dtype of the weight.

    Args:
        model: the body. The adapter may have been trained on it, or on the model with its head.
        config: the contents of ``adapter_config.json``.
        tensors: ``A`` ``[r, in]`` and ``B`` ``[out, r]`` of each adapted layer, under the names that peft gives them.

    Raises:
        ModelError: a tensor has no partner, belongs to no linear layer, or has the wrong shape. Then no weight is
            changed.
    """
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if (match := _KEY.fullmatch(key)) is None:
            raise ModelError(f"the adapter's tensor {key!r} is no LoRA weight; merge this adapter with peft")
        factors.setdefault(match[1], {})[match[2]] = tensor
    weights = {path: _weight(model, path, pair, rank) for path, pair in factors.items()}
    for path, weight in weights.items():
        a, b = (factors[path][side].to(weight.device, torch.float32) for side in "AB")
        weight.copy_(torch.addmm(weight.float(), b, a, alpha=scale))


def _weight(model: PreTrainedModel, path: str, pair: Mapping[str, Tensor], rank: int) -> Tensor:
    """The weight of the linear layer ``path``, checked to fit a pair of factors."""
    try:
        # The names have one level more if the adapter was trained on the model with its head.
        nested = path.startswith(f"{model.base_model_prefix}.") and not hasattr(model, model.base_model_prefix)
        module: Any = model.get_submodule(path.removeprefix(f"{model.base_model_prefix}.") if nested else path)
    except AttributeError:
        module = None
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"the adapter has weights for {path!r}, which is no linear layer of this {type(model).__name__} with "
            f"{model.config.get_text_config().num_hidden_layers} layers; was it trained on another model?"
        )
    weight = module.weight
    if weight.is_meta:
        raise ModelError(f"{path} is offloaded and cannot be adapted; choose a device_map that keeps it in memory")
    wanted = {"A": (rank, weight.shape[1]), "B": (weight.shape[0], rank)}
    found = {side: tuple(tensor.shape) for side, tensor in pair.items()}
    if found != wanted:
        raise ModelError(
            f"the adapter's weights for {path!r} have shapes {found}, but this {type(model).__name__} and r={rank} "
            f"need {wanted}; was it trained on another model?"
        )
    return weight


def _plain_lora(adapter: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Load config and tensors of an adapter that needs no peft; ``None`` for any other."""
    from safetensors.torch import load_file

    try:
        spec = pinned(ModelSpec(adapter))
        found = find_file(spec, presets.ADAPTER_CONFIG)
    except ModelError as error:
        raise ModelError(f"adapter {adapter!r} could not be loaded: {error}") from error
    if found is None:
        raise ModelError(
            f"adapter {adapter!r} could not be loaded: there is no {presets.ADAPTER_CONFIG}; give the folder or hub "
            "id of an adapter that peft saved"
        )
    config = json.loads(Path(found).read_text(encoding="utf-8"))
    if (weights := find_file(spec, presets.ADAPTER_WEIGHTS)) is None:
        return None
    tensors = load_file(weights)
    return (config, tensors) if is_plain(config, tensors) else None


def _names_head(adapter: str) -> bool:
    """Whether an adapter was trained on the model with its head. Then its names have one level more."""
    _, load_peft_weights = _peft()
    try:
        keys = load_peft_weights(adapter, device="cpu")
    except ValueError as error:
        raise ModelError(f"adapter {adapter!r} could not be loaded: {error}") from error
    return any(key.startswith(("base_model.model.model.", "base_model.model.lm_head.")) for key in keys)


def _with_peft(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    peft_model, _ = _peft()
    adapted: Any = peft_model.from_pretrained(model, adapter)
    merged: PreTrainedModel
    merged = adapted.get_base_model() if getattr(model, "is_quantized", False) else adapted.merge_and_unload()
    return merged


def _peft() -> tuple[Any, Any]:
    try:
        from peft import PeftModel
        from peft.utils.save_and_load import load_peft_weights
    except ImportError as error:
        raise ImportError(
            "this adapter is more than plain LoRA, or the model is quantised, which needs peft: "
            + from_checkout(".[peft]")
        ) from error
    return PeftModel, load_peft_weights
