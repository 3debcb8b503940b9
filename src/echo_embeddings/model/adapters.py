"""Merge LoRA adapters (arXiv 2106.09685) into the weights of a model: merged weights cost nothing at run time.

A plain adapter only adds ``alpha / r * B @ A`` to the weights of linear layers. It is merged here, without peft. Any
other adapter (DoRA, biases, whole modules, other ranks for some layers, adapted embeddings) is left to peft.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from echo_embeddings.errors import ModelError

from .adapter_files import AdapterFiles, adapter_files, peft_model

__all__ = ["Adapter", "is_plain", "merge", "merge_into", "prepare", "read_tensors"]

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


@dataclass(frozen=True)
class Adapter:
    """An adapter in memory.

    Attributes:
        files: where it is, and its config.
        tensors: by the names that peft gives them.
        is_plain: whether :func:`merge` merges it; else peft does.
        has_head: whether it was trained on the model with its head. Then its names have one level more.
    """

    files: AdapterFiles
    tensors: dict[str, Tensor]
    is_plain: bool
    has_head: bool


def prepare(adapters: Iterable[str], *, quantised: bool) -> list[Adapter]:
    """Find adapters and read their files.

    Args:
        adapters: folders or hub ids.
        quantised: whether the model's weights are quantised. Adapters cannot be merged into such weights without loss,
            so peft runs them beside the weights.

    Raises:
        ModelError: there is no such adapter, or a file of it is damaged.
    """
    found = []
    for files in map(adapter_files, adapters):
        tensors = read_tensors(files.weights)
        heads = ("base_model.model.model.", "base_model.model.lm_head.")
        found.append(
            Adapter(
                files,
                tensors,
                is_plain=not quantised and is_plain(files.config, tensors),
                has_head=any(name.startswith(heads) for name in tensors),
            )
        )
    return found


def merge_into(model: PreTrainedModel, adapters: Sequence[Adapter]) -> PreTrainedModel:
    """Merge adapters into a model, in the order given.

    Args:
        model: the body; or the model with its head if an adapter that is not plain has one.
        adapters: what to merge.

    Returns:
        The body.

    Raises:
        ModelError: an adapter is incomplete, or does not fit the model.
        ImportError: an adapter needs peft, which is not installed.
    """
    for adapter in adapters:
        model = _with(model, adapter)
    body: PreTrainedModel = model.base_model
    return body


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an adapter; a pickled file gives tensors only, and never runs code.

    Raises:
        ModelError: the file is damaged, or a tensor has NaN or infinity in it.
    """
    from safetensors.torch import load_file

    is_pickled = path.suffix != ".safetensors"
    found: Any
    try:
        found = torch.load(path, map_location="cpu", weights_only=True) if is_pickled else load_file(path)
    except MemoryError:
        raise
    except Exception as error:  # both libraries raise whatever comes of a damaged file
        what = "convert it to safetensors" if is_pickled else "save the adapter again"
        raise ModelError(f"{path} cannot be read ({str(error)[:200]}); {what}") from error
    tensors: dict[str, Tensor] = found if isinstance(found, dict) else {}
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ModelError(f"{path} has no tensors in it; save the adapter again")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelError(f"{path}: the tensor {name!r} has NaN or infinity in it; train the adapter again")
    return tensors


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
        ModelError: a tensor has no partner, belongs to no linear layer, has the wrong shape, or is missing. Then no
            weight is changed.
    """
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if (match := _KEY.fullmatch(key)) is None:
            raise ModelError(f"the adapter's tensor {key!r} is no LoRA weight; merge this adapter with peft")
        factors.setdefault(match[1], {})[match[2]] = tensor
    weights = {path: _weight(model, path, pair, rank) for path, pair in factors.items()}
    _require_all(model, config, factors)
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


def _require_all(model: PreTrainedModel, config: Mapping[str, Any], paths: Collection[str]) -> None:
    """Check that an adapter has weights for each module that its config names, up to the last layer that it adapts.

    Above that layer it may have none: it was trained on a model that had been shortened.
    """
    targets = config.get("target_modules")
    if not targets or config.get("exclude_modules") or not paths:
        return
    head = f"{model.base_model_prefix}."
    prefix = head if all(path.startswith(head) for path in paths) else ""
    highest = max(_layer(path) for path in paths)
    chosen = config.get("layers_to_transform")
    layers = None if chosen is None else {chosen} if isinstance(chosen, int) else set(chosen)
    for name, module in model.named_modules():
        path, layer = prefix + name, _layer(name)
        is_meant = isinstance(module, nn.Linear) and _is_target(path, targets) and layer <= highest
        if is_meant and (layers is None or layer in layers) and path not in paths:
            raise ModelError(f"the adapter has no weights for {path!r}, which its config names; save the adapter again")


def _is_target(path: str, targets: str | Sequence[str]) -> bool:
    """Whether peft adapts a linear layer."""
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    return any(path == target or path.endswith(f".{target}") for target in targets)


def _layer(path: str) -> int:
    """The number of the layer that a module stands in; -1 outside the layers."""
    found = re.search(r"\.(\d+)\.", f".{path}")
    return int(found[1]) if found else -1


def _with(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    try:
        if not adapter.is_plain:
            return _with_peft(model, adapter)
        merge(model.base_model, adapter.files.config, adapter.tensors)
    except ModelError as error:
        raise ModelError(
            f"adapter {adapter.files.name!r} ({adapter.files.weights}) could not be merged: {error}"
        ) from error
    return model


def _with_peft(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    runs = peft_model()
    names = [name for name, _ in model.named_modules()]
    for whole in adapter.files.config.get("modules_to_save") or ():
        if not any(name == whole or name.endswith(f".{whole}") for name in names):
            raise ModelError(
                f"its config names the module {whole!r} in modules_to_save, which this model does not have"
            )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            adapted: Any = runs.from_pretrained(model, str(adapter.files.folder))
            quantised = getattr(model, "is_quantized", False)
            merged: PreTrainedModel = adapted.get_base_model() if quantised else adapted.merge_and_unload()
        except (MemoryError, ImportError):
            raise
        except Exception as error:  # peft raises whatever comes of a config or of weights that do not fit
            raise ModelError(f"peft cannot use it ({type(error).__name__}: {error})") from error
    highest = max(map(_layer, adapter.tensors))
    for warning in said:
        text = str(warning.message)
        lost = re.findall(r"'([^']+)'", text) if "missing adapter keys" in text else []
        if needed := [name for name in lost if _layer(name) <= highest]:
            raise ModelError(f"it has no weights {needed[0]!r}; save the adapter again")
        if not lost:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return merged
