"""Load a model by its name (hub id, folder, GGUF file or built-in) and make it ready to embed. Knows no text."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from echo_embeddings import notices
from echo_embeddings.config import presets
from echo_embeddings.config.files import CONFIG_FILE
from echo_embeddings.errors import ModelError

from . import int8
from .adapter_files import with_base
from .adapters import merge_into
from .adapters import prepare as prepare_adapters
from .architecture import layers_of, require_causal, require_decoder
from .checks import check_model_config, check_saved_files, explained, trusts_code
from .conversion import from_cache
from .device import pick_device, pick_dtype
from .gguf import as_plain, require_gguf, split_gguf
from .hub import find_file, hub_arguments, pinned
from .manifest import MARK
from .spec import ModelSpec
from .weights import from_pretrained

__all__ = ["LoadedModel", "config_of", "load", "prepare", "require_weights", "unembedding"]


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        body: the body of a causal model (``AutoModel``), in ``eval()``, on its device, adapters merged.
        tokenizer: its transformers tokenizer.
        merged: the name of the packaged adapter that is merged into the weights, or ``None``.
        may_change: whether this package loaded the model. Only then may its attention be exchanged and its layers be
            compiled: a model that the user loaded is never changed.
        attention_is_chosen: whether the user asked for an ``attn_implementation``, which is kept in that case.
        missing: names of the body's weights that the files lack; see :func:`require_weights`.
    """

    body: PreTrainedModel
    tokenizer: Any
    merged: str | None = None
    may_change: bool = False
    attention_is_chosen: bool = False
    missing: frozenset[str] = frozenset()


def load(spec: ModelSpec) -> LoadedModel:
    """Load the tokenizer and the body of a causal model, and merge its adapters.

    No code from the model's files runs, unless ``model_kwargs`` has ``trust_remote_code=True``; nothing is asked on the
    terminal, and nothing is fetched that only a file names.

    Raises:
        ModelError: there is no such model, a file of it is damaged, it is not causal, or an adapter or int8 cannot be
            used with it.
        ImportError: transformers needs another package for this model.
    """
    if spec.is_loaded:
        return LoadedModel(prepare(spec.model), spec.tokenizer)
    device = pick_device(spec.device)
    spec = with_base(pinned(spec))
    with explained(spec):
        files = from_cache(spec)
    name, where = _place(files)
    check_saved_files(spec)
    config = _config(spec, files)
    with explained(spec), notices.loading_bars():
        require_decoder(config, spec.name)
        dtype = pick_dtype(_wanted_dtype(spec, config), device)
        kwargs = {"dtype": dtype} | files.model_kwargs | where
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
    names = [os.fspath(presets.adapter_folder(spec.packaged))] if spec.packaged else []
    names += [spec.adapter] if spec.adapter else []
    adapters = prepare_adapters(names, quantised=bool(where.get("gguf_file") or _quantisation(spec, config)))
    # transformers 5.8 finds the weights of a GGUF file only for the model with its head.
    with_head = "gguf_file" in where or any(adapter.has_head and not adapter.is_plain for adapter in adapters)
    auto = AutoModelForCausalLM if with_head else AutoModel
    with explained(spec), notices.loading_bars(shown=spec.model is not None):  # the built-in model loads in a second
        model, missing = _from_pretrained(auto, name, kwargs)
    model = merge_into(model, adapters)
    if "gguf_file" in where:
        as_plain(model)
    if spec.is_int8:
        int8.quantise(model)  # on the host, so the device never holds larger weights
    if "device_map" not in kwargs:
        model = model.to(device)
    return LoadedModel(
        prepare(model),
        tokenizer,
        spec.packaged,
        may_change=True,
        attention_is_chosen="attn_implementation" in kwargs,
        missing=missing,
    )


def config_of(spec: ModelSpec) -> Any:
    """The transformers config of a model that is not loaded; of an adapter, that of its base. Weights are not read.

    Raises:
        ModelError: there is no such model, or its config is damaged.
    """
    spec = with_base(pinned(spec))
    return _config(spec, from_cache(spec, may_convert=False))


def require_weights(loaded: LoadedModel, exit_layer: int) -> None:
    """Check that no weight of the layers that run was missing from the files; transformers puts random ones there.

    Raises:
        ModelError: one was missing; the message names it.
    """
    above = {id(layer) for layer in layers_of(loaded.body)[exit_layer:]}
    unused = tuple(f"{name}." for name, module in loaded.body.named_modules() if id(module) in above)
    if lost := sorted(name for name in loaded.missing if not name.startswith(unused or ("\0",))):
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise ModelError(
            f"the model's files have no weights for {', '.join(lost[:3])}{more}; download or save the model again"
        )


def prepare(model: Any) -> PreTrainedModel:
    """Take the body of a loaded model, put it into ``eval()``, and check that it is causal.

    Raises:
        ModelError: it is not a causal model of transformers.
    """
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()  # a PeftModel
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"model is a {type(model).__name__}; give a hub id, a path, or a transformers PreTrainedModel")
    require_decoder(model.config, type(model).__name__)
    body: PreTrainedModel = model.base_model
    body.eval()
    require_causal(body)
    return body


def unembedding(spec: ModelSpec, body: PreTrainedModel) -> Any:
    """The unembedding matrix of a model whose body is loaded: float32 ``[vocabulary, dim]``.

    Raises:
        ModelError: the user's model was loaded without it.
    """
    head = body.get_input_embeddings()
    if not getattr(body.config.get_text_config(), "tie_word_embeddings", False):
        model = spec.model
        if not spec.is_loaded:
            spec = with_base(pinned(spec))
            with explained(spec), notices.loading_bars():
                files = from_cache(spec)
                name, where = _place(files)
                model, missing = _from_pretrained(AutoModelForCausalLM, name, files.model_kwargs | where)
            if lost := [one for one in missing if one.startswith("lm_head")]:
                raise ModelError(f"the files of model {spec.name!r} have no unembedding matrix ({lost[0]})")
        if (head := model.get_output_embeddings()) is None:
            raise ModelError(f"{type(model).__name__} has no unembedding matrix; load it with AutoModelForCausalLM")
    return head.weight.detach().float().cpu().numpy()


def _place(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """What transformers loads, and the arguments that say where it is and whether its code may run."""
    name, gguf = split_gguf(spec.location())
    where = hub_arguments(spec) | gguf | {"trust_remote_code": trusts_code(spec)}
    if Path(name).is_dir() and "gguf_file" in where:
        require_gguf(Path(name, where.get("subfolder") or "", where["gguf_file"]))
    return name, where


def _config(spec: ModelSpec, files: ModelSpec) -> Any:
    """The config of a model; ``files`` says where it is read, which for a GGUF file may be the cache."""
    name, where = _place(files)
    check_model_config(spec)
    with explained(spec), notices.loading_bars():
        return AutoConfig.from_pretrained(name, **where)


def _from_pretrained(auto: Any, name: str, kwargs: dict[str, Any]) -> tuple[Any, frozenset[str]]:
    """A model, and the names of the weights that its files lack, as the body calls them."""
    model, info = from_pretrained(auto, name, **kwargs, output_loading_info=True)
    if hasattr(model.config, MARK):
        delattr(model.config, MARK)  # it belongs to these files, not to what is made of them
    lost = {*info["missing_keys"], *(one[0] if isinstance(one, tuple) else one for one in info["mismatched_keys"])}
    if info.get("error_msgs"):
        raise ModelError(str(info["error_msgs"][0]))
    return model, frozenset(name.removeprefix(f"{model.base_model_prefix}.") for name in lost)


def _quantisation(spec: ModelSpec, config: Any) -> Any:
    """How transformers quantises the weights, or did before they were saved; ``None`` if it does not."""
    found = spec.model_kwargs.get("quantization_config") or getattr(config, "quantization_config", None)
    if found and spec.is_int8:
        raise ModelError(
            f"dtype='int8' cannot be used: model {spec.name!r} has a quantization_config already; leave one of them out"
        )
    return found


def _wanted_dtype(spec: ModelSpec, config: Any) -> Any:
    """The dtype to load. An encoder saved in float32 is loaded in float32, so its vectors do not change."""
    open_choice = spec.dtype == "auto" or spec.is_int8
    if open_choice and config.dtype == torch.float32:
        with suppress(ModelError):  # nobody knows; then the user gave a config
            if find_file(spec, CONFIG_FILE) is not None:
                return torch.float32
    return spec.dtype
