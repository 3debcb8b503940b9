"""From a name to a model that is ready to embed: hub id, folder, GGUF file or built-in. Loading knows no text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from echo_embeddings.config import presets
from echo_embeddings.config.config import ARRAYS_FILE, CONFIG_FILE, EchoConfig
from echo_embeddings.errors import ModelError
from echo_embeddings.forward.speed import block_attention, packed_attention

from . import adapters, builtin, int8
from .spec import Source

__all__ = ["load", "pick_device", "pick_dtype", "prepare", "saved_config", "unembedding"]


# `from_pretrained` arguments that choose the files, so config and tokenizer need them too.
_HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only", "trust_remote_code", "subfolder")


def pick_device(device: str | None) -> str:
    """The device asked for, or the best there is.

    Raises:
        ModelError: torch knows no such device, or has none here.
    """
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"device={device!r} cannot be used: {reason}; leave it out to take the best") from error
        return str(torch.device(device))
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(dtype: Any, device: str) -> torch.dtype:
    """``"auto"``: bfloat16 on a GPU and on processors with bf16 instructions, float32 elsewhere.

    So too for ``"int8"``: that is how weights are kept, and this what is computed in.

    Raises:
        ModelError: ``dtype`` is no floating-point dtype.
    """
    if dtype not in ("auto", "int8"):
        chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
            raise ModelError(f"dtype={dtype!r} is unknown; use 'auto', 'float32', 'bfloat16', 'float16' or 'int8'")
        return chosen
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        # Without these instructions bf16 works, but slower than float32.
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16


def saved_config(source: Source) -> EchoConfig | None:
    """The echo config saved with the model, or ``None`` if there is none."""
    config = _find(source, CONFIG_FILE)
    if config is None:
        return None
    arrays = _find(source, ARRAYS_FILE)
    return EchoConfig.from_files(Path(config), None if arrays is None else Path(arrays))


def _find(source: Source, file: str) -> str | None:
    """The path of a file saved with the model; ``None`` where there is none, or no such model (``load`` says so)."""
    location = source.location()
    if location.endswith(".gguf"):
        return None
    hub = {name: source.model_kwargs[name] for name in _HUB_ARGUMENTS if name in source.model_kwargs}
    hub.pop("trust_remote_code", None)
    try:
        found: str | None = cached_file(
            location,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
    except OSError:
        return None
    return found


def load(source: Source) -> tuple[PreTrainedModel, Any]:
    """Load the body of a causal model, its adapters merged, and its tokenizer.

    Raises:
        ModelError: there is no such model, it is not causal, an adapter does not fit it, or int8 does not.
    """
    device = pick_device(source.device)
    source = _with_base(source)
    to_merge = [os.fspath(presets.adapter_folder(source.packaged))] if source.packaged else []
    to_merge += [source.adapter] if source.adapter else []
    name, gguf = _split_gguf(source.location())
    if name.startswith(("/", "./", "../", "~")) and not Path(name).exists():
        raise ModelError(f"there is no folder {name!r}; give the path of a saved model, a .gguf file, or a hub id")
    hub = {key: source.model_kwargs[key] for key in _HUB_ARGUMENTS if key in source.model_kwargs} | gguf
    try:
        config = AutoConfig.from_pretrained(name, **hub)
        _require_decoder(config, source.name)
        dtype = pick_dtype(_dtype_wanted(source, config), device)
        kwargs = {"dtype": dtype} | source.model_kwargs
        tokenizer = AutoTokenizer.from_pretrained(name, **hub)
        quantised = bool(gguf or _quantisation(source, config))
        with _bar(shown=source.model is not None):
            model = _with_adapters(name, to_merge, kwargs | gguf, quantised=quantised)
        if source.is_int8:
            int8.quantise(model)  # before it goes to its device, which need not hold more
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"model {source.name!r} could not be loaded: {error}\n"
            "Give a hub id, a folder with config.json, or a .gguf file; EchoEncoder() alone uses the built-in model"
        ) from error
    if "device_map" not in kwargs:
        model = model.to(device)
    body = prepare(model)
    if "attn_implementation" not in kwargs:
        # Compiled in float32, torch's own is one piece with what stands around it.
        if not (source.compiled and body.dtype == torch.float32):
            block_attention.use_on(body)
        packed_attention.use_on(body)
    if source.compiled:
        from echo_embeddings.forward.speed.compiled import compile_layers

        compile_layers(body)
    setattr(body, presets.MARK, source.packaged)
    return body, tokenizer


@contextmanager
def _bar(*, shown: bool) -> Iterator[None]:
    """Hide transformers' progress bar where loading takes a second: for the built-in model."""
    was_shown = logging.is_progress_bar_enabled()
    if not shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _with_base(source: Source) -> Source:
    """A PEFT adapter's own name stands for its base model with the adapter."""
    found = None if source.adapter or source.model is None else _find(source, "adapter_config.json")
    if found is None or _find(source, "config.json") is not None:
        return source
    base = json.loads(Path(found).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base and source.packaged is None:
        raise ModelError(f"adapter {source.name!r} does not say its base model; use EchoEncoder(base, adapter=...)")
    # Under a packaged adapter lies the built-in model, wherever its folder was when this one was trained.
    is_builtin = source.packaged is not None or base == builtin.NAME
    return replace(source, model=None if is_builtin else base, adapter=source.location())


def _quantisation(source: Source, config: Any) -> Any:
    """How transformers quantises the weights, or did before they were saved; ``None`` if not at all."""
    found = source.model_kwargs.get("quantization_config") or getattr(config, "quantization_config", None)
    if found and source.is_int8:
        raise ModelError(
            f"dtype='int8' cannot be used: model {source.name!r} has a quantization_config already; leave one of them "
            "out"
        )
    return found


def _dtype_wanted(source: Source, config: Any) -> Any:
    """A model that was saved as an encoder in float32 comes back in float32, or its vectors would change."""
    open_choice = source.dtype == "auto" or source.is_int8
    if open_choice and config.dtype == torch.float32 and _find(source, CONFIG_FILE) is not None:
        return torch.float32
    return source.dtype


def prepare(model: Any) -> PreTrainedModel:
    """The body of a loaded model, ready for inference, checked to be causal.

    Raises:
        ModelError: it is no causal model of transformers.
    """
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()  # a PeftModel
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"model is a {type(model).__name__}; give a hub id, a path, or a transformers PreTrainedModel")
    _require_decoder(model.config, type(model).__name__)
    body: PreTrainedModel = model.base_model
    body.eval()
    _require_causal(body)
    return body


def unembedding(source: Source, body: PreTrainedModel) -> Any:
    """The unembedding matrix ``[vocabulary, dim]`` of a model whose body is loaded, float32.

    Raises:
        ModelError: the user's model was loaded without it.
    """
    head = body.get_input_embeddings()
    if not getattr(body.config.get_text_config(), "tie_word_embeddings", False):
        model = source.model
        if not source.is_loaded:
            name, gguf = _split_gguf(source.location())
            model = AutoModelForCausalLM.from_pretrained(name, **source.model_kwargs, **gguf)
        if (head := model.get_output_embeddings()) is None:
            raise ModelError(f"{type(model).__name__} has no unembedding matrix; load it with AutoModelForCausalLM")
    return head.weight.detach().float().cpu().numpy()


def _split_gguf(name: str) -> tuple[str, dict[str, str]]:
    if not name.endswith(".gguf"):
        return name, {}
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no GGUF file {name!r}; give the path of an existing .gguf file")
    return os.fspath(path.parent), {"gguf_file": path.name}


def _with_adapters(name: str, names: list[str], kwargs: dict[str, Any], *, quantised: bool) -> PreTrainedModel:
    """The body of a model with adapters merged in order: merged weights cost nothing at run time."""
    # Into quantised weights nothing can be merged without loss; peft runs such an adapter beside them.
    plain = {adapter: None if quantised else _plain_lora(adapter) for adapter in names}
    with_head = any(found is None and _names_head(adapter) for adapter, found in plain.items())
    model = (AutoModelForCausalLM if with_head else AutoModel).from_pretrained(name, **kwargs)
    for adapter, found in plain.items():
        if found is None:
            model = _with_peft(model, adapter)
        else:
            adapters.merge(model.base_model, *found)
    body: PreTrainedModel = model.base_model
    return body


def _plain_lora(adapter: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Config and tensors of an adapter that needs no peft; ``None`` for any other."""
    from safetensors.torch import load_file

    source = Source(adapter)
    if (found := _find(source, presets.ADAPTER_CONFIG)) is None:
        raise ModelError(
            f"adapter {adapter!r} could not be loaded: there is no {presets.ADAPTER_CONFIG}; give the folder or hub "
            "id of an adapter that peft saved"
        )
    config = json.loads(Path(found).read_text(encoding="utf-8"))
    if (weights := _find(source, presets.ADAPTER_WEIGHTS)) is None:
        return None
    tensors = load_file(weights)
    return (config, tensors) if adapters.is_plain(config, tensors) else None


def _names_head(adapter: str) -> bool:
    """Whether an adapter was trained on the model with its head: its names have one level more."""
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
            "this adapter is more than plain LoRA, or the model is quantised, which needs peft; run "
            "pip install 'echo-embeddings[peft]'"
        ) from error
    return PeftModel, load_peft_weights


def _require_decoder(config: Any, name: str) -> None:
    architectures = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False) or any("MaskedLM" in a for a in architectures):
        raise ModelError(_not_causal(name))


@torch.inference_mode()
def _require_causal(model: PreTrainedModel) -> None:
    """Change the last token and see whether the first one's state moves. A name or a flag would say less."""
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device)
    states = model(input_ids=ids, use_cache=False).last_hidden_state
    first = states[:, 0].float()
    if float((first[0] - first[1]).abs().max()) > torch.finfo(states.dtype).eps * float(first.abs().max()):
        raise ModelError(_not_causal(type(model).__name__))


def _not_causal(name: str) -> str:
    return (
        f"{name} is not a causal (decoder-only) language model: its tokens already see the whole text, so there is "
        "nothing for an echo to add. Use it with sentence-transformers, or choose a causal model such as "
        "HuggingFaceTB/SmolLM2-135M-Instruct"
    )
