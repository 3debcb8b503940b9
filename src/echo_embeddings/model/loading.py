"""Load a model by its name (hub id, folder, GGUF file or built-in) and make it ready to embed. Knows no text."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from echo_embeddings import notices
from echo_embeddings.config import presets
from echo_embeddings.config.files import CONFIG_FILE
from echo_embeddings.errors import ModelError
from echo_embeddings.extras import reworded

from . import builtin, int8
from .adapters import load_adapted
from .architecture import require_causal, require_decoder
from .device import pick_device, pick_dtype
from .gguf import split_gguf
from .hub import find_file, hub_arguments, pinned
from .spec import ModelSpec

__all__ = ["LoadedModel", "load", "prepare", "unembedding"]


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
    """

    body: PreTrainedModel
    tokenizer: Any
    merged: str | None = None
    may_change: bool = False
    attention_is_chosen: bool = False


def load(spec: ModelSpec) -> LoadedModel:
    """Load the tokenizer and the body of a causal model, and merge its adapters.

    Raises:
        ModelError: there is no such model, it is not causal, or an adapter or int8 cannot be used with it.
        ImportError: transformers needs another package for this model.
    """
    if spec.is_loaded:
        return LoadedModel(prepare(spec.model), spec.tokenizer)
    device = pick_device(spec.device)
    spec = _with_base(pinned(spec))
    adapters = [os.fspath(presets.adapter_folder(spec.packaged))] if spec.packaged else []
    adapters += [spec.adapter] if spec.adapter else []
    name, gguf = split_gguf(spec.location())
    where = hub_arguments(spec) | gguf
    try:
        with notices.loading_bars():
            config = AutoConfig.from_pretrained(name, **where)
            tokenizer = AutoTokenizer.from_pretrained(name, **where)
        require_decoder(config, spec.name)
        dtype = pick_dtype(_wanted_dtype(spec, config), device)
        kwargs = {"dtype": dtype} | spec.model_kwargs
        quantised = bool(gguf or _quantisation(spec, config))
        with notices.loading_bars(shown=spec.model is not None):  # the built-in model loads in a second
            model = load_adapted(name, adapters, kwargs | gguf, quantised=quantised)
        if spec.is_int8:
            int8.quantise(model)  # on the host, so the device never holds larger weights
    except ImportError as error:  # transformers needs a package for this model
        raise ImportError(reworded(str(error)), name=error.name) from error
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"model {spec.name!r} could not be loaded: {reworded(str(error))}\n"
            "Give a hub id, a folder with config.json, or a .gguf file; EchoEncoder() alone uses the built-in model"
        ) from error
    if "device_map" not in kwargs:
        model = model.to(device)
    chosen = "attn_implementation" in kwargs
    return LoadedModel(prepare(model), tokenizer, spec.packaged, may_change=True, attention_is_chosen=chosen)


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
            name, gguf = split_gguf(spec.location())
            with notices.loading_bars():
                model = AutoModelForCausalLM.from_pretrained(name, **spec.model_kwargs, **gguf)
        if (head := model.get_output_embeddings()) is None:
            raise ModelError(f"{type(model).__name__} has no unembedding matrix; load it with AutoModelForCausalLM")
    return head.weight.detach().float().cpu().numpy()


def _with_base(spec: ModelSpec) -> ModelSpec:
    """Replace a model that is a PEFT adapter by its base model with that adapter."""
    found = None if spec.adapter or spec.model is None else find_file(spec, "adapter_config.json")
    if found is None or find_file(spec, "config.json") is not None:
        return spec
    base = json.loads(Path(found).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base and spec.packaged is None:
        raise ModelError(f"adapter {spec.name!r} does not say its base model; use EchoEncoder(base, adapter=...)")
    # A packaged adapter means that the base is the built-in model, whatever its folder was at training time.
    is_builtin = spec.packaged is not None or base == builtin.NAME
    return replace(spec, model=None if is_builtin else base, adapter=spec.location())


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
