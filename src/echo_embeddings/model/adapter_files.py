"""Find and check the files of a PEFT adapter, and the model that it belongs to. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from echo_embeddings.config import presets
from echo_embeddings.config.files import read_object
from echo_embeddings.errors import ConfigError, ModelError
from echo_embeddings.extras import from_checkout

from . import builtin, manifest
from .hub import find_file, hub_arguments, pinned
from .spec import ModelSpec

__all__ = ["AdapterFiles", "adapter_files", "peft_model", "with_base"]

_OLD_WEIGHTS = "adapter_model.bin"
#: The largest rank and scale that we compute with. Those in use are below 1,000.
_HIGHEST = 1_000_000


@dataclass(frozen=True)
class AdapterFiles:
    """The files of an adapter, on this machine.

    Attributes:
        name: what the user calls it: a folder or a hub id.
        folder: where its files are.
        config: the content of ``adapter_config.json``, checked.
        weights: the file of the tensors, safetensors or (of old versions of peft) pickled.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    weights: Path


def adapter_files(name: str) -> AdapterFiles:
    """Find an adapter and check its config; from the hub, download it.

    Args:
        name: folder or hub id.

    Raises:
        ModelError: there is no such adapter, or a file of it is missing, damaged, or says what cannot be.
    """
    try:
        spec = pinned(ModelSpec(name))
        found = find_file(spec, presets.ADAPTER_CONFIG)
    except ModelError as error:
        raise ModelError(f"adapter {name!r} could not be loaded: {error}") from error
    if found is None:
        raise ModelError(
            f"adapter {name!r} could not be loaded: there is no {presets.ADAPTER_CONFIG}; give the folder or hub id of "
            "an adapter that peft saved"
        )
    return _files(spec, Path(found))


def with_base(spec: ModelSpec) -> ModelSpec:
    """Replace a model that is a PEFT adapter by its base model with that adapter.

    Only a base on this machine is taken from the adapter's config. One that would be fetched must be named by the user.

    Raises:
        ModelError: the base is not on this machine, or it is not clear whether the adapter is in the weights.
    """
    if spec.model is None or spec.is_loaded:
        return spec
    found = find_file(spec, presets.ADAPTER_CONFIG)
    if found is None:
        return spec
    if find_file(spec, "config.json") is not None:
        raise ModelError(
            f"{spec.name!r} has a model (config.json) and an adapter ({presets.ADAPTER_CONFIG}), and nothing says "
            "whether the adapter is in the weights. Move the adapter's files into a folder of their own, and use "
            "EchoEncoder(model, adapter=folder)"
        )
    if spec.adapter is not None:
        raise ModelError(
            f"{spec.name!r} is an adapter, and adapter={spec.adapter!r} is another; merge one into its model first: "
            "EchoEncoder(model, adapter=...).save_pretrained(folder)"
        )
    base = _files(spec, Path(found)).config.get("base_model_name_or_path")
    # A packaged adapter means that the base is the built-in model, whatever its folder was at training time.
    is_builtin = spec.packaged is not None or base == builtin.NAME
    if not base and not is_builtin:
        raise ModelError(f"adapter {spec.name!r} does not say its base model; use EchoEncoder(base, adapter=...)")
    if not is_builtin and not (Path(str(base)) / "config.json").is_file():
        raise ModelError(
            f"adapter {spec.name!r} belongs to the model {base!r}, which is no folder of a model here. A model that "
            "only an adapter's config names is not fetched; if you trust it, use "
            f"EchoEncoder({base!r}, adapter={spec.name!r})"
        )
    kwargs = {name: value for name, value in spec.model_kwargs.items() if name not in hub_arguments(spec)}
    return replace(spec, model=None if is_builtin else base, adapter=str(Path(found).parent), model_kwargs=kwargs)


def _files(spec: ModelSpec, config: Path) -> AdapterFiles:
    try:
        content = read_object(config)
        if content.get("use_dora") is True:
            peft_model()  # what is missing from this machine is said before what is missing from the file
        _check(content)
    except ConfigError as error:
        said = str(error) if str(config) in str(error) else f"{config} cannot be read: {error}"
        raise ModelError(f"adapter {spec.name!r} could not be loaded: {said}") from error
    if (config.parent / manifest.FILE).is_file():
        manifest.check(config.parent / manifest.FILE, lambda name: find_file(spec, name))
    weights = find_file(spec, presets.ADAPTER_WEIGHTS) or find_file(spec, _OLD_WEIGHTS)
    if weights is None:
        raise ModelError(
            f"adapter {spec.name!r} could not be loaded: {config.parent} has no file {presets.ADAPTER_WEIGHTS}; save "
            "the adapter again"
        )
    return AdapterFiles(spec.name, config.parent, content, Path(weights))


def peft_model() -> Any:
    """The class of peft that runs adapters which are more than plain LoRA.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError(
            "this adapter is more than plain LoRA, or the model is quantised, which needs peft: "
            + from_checkout(".[peft]")
        ) from error
    return PeftModel


def _check(config: Mapping[str, Any]) -> None:
    """Check the fields that decide what is computed, if they are there.

    Raises:
        ConfigError: a field has the wrong type, or is beyond what can be computed with.
    """
    for names, is_right, wanted in _FIELDS:
        for name in names:
            value = config.get(name)
            if value is not None and not is_right(value):
                raise ConfigError(f"{name}={value!r:.200}: give {wanted}")
    is_lora = config.get("peft_type") == "LORA"
    for name in ("peft_type", *(("r", "lora_alpha") if is_lora else ())):
        if config.get(name) is None:
            raise ConfigError(f"it has no field {name!r}")


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _HIGHEST


def _is_scale(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _HIGHEST  # NaN is not


def _are_names(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and _are_names(value)


def _are_layers(value: object) -> bool:
    listed = value if isinstance(value, list) else [value]
    return all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in listed)


def _pattern_of(is_right: Any) -> Any:
    return lambda value: isinstance(value, dict) and all(is_right(one) for one in value.values())


_FIELDS = (
    (("peft_type", "bias", "task_type", "base_model_name_or_path", "revision"), _is_string, "a string"),
    (("use_rslora", "use_dora", "fan_in_fan_out", "inference_mode", "lora_bias"), _is_switch, "true or false"),
    (("r",), _is_rank, f"a whole number from 1 to {_HIGHEST:,}"),
    (("lora_alpha",), _is_scale, f"a number from {-_HIGHEST:,} to {_HIGHEST:,}"),
    (("target_modules", "exclude_modules", "layers_pattern"), _are_names, "a string or a list of strings"),
    (("modules_to_save", "target_parameters"), _is_list_of_names, "a list of strings"),
    (("layers_to_transform",), _are_layers, "a layer's number or a list of them"),
    (("rank_pattern",), _pattern_of(_is_rank), f"an object of whole numbers from 1 to {_HIGHEST:,}"),
    (("alpha_pattern",), _pattern_of(_is_scale), f"an object of numbers up to {_HIGHEST:,}"),
)
