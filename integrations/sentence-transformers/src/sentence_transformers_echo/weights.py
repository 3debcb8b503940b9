"""Load weights, tokenizer and config with the core library, and write a config's layers as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from echo_embeddings import EchoConfig
from echo_embeddings.config.config import Layers
from echo_embeddings.defaults import config_for
from echo_embeddings.forward.speed import switches
from echo_embeddings.model import builtin
from echo_embeddings.model.loading import LoadedModel
from echo_embeddings.model.loading import load as load_model
from echo_embeddings.model.spec import ModelSpec

__all__ = ["in_numbers", "load"]


def load(
    path: str, adapter: str | None, options: dict[str, Any], hub: dict[str, Any]
) -> tuple[LoadedModel, EchoConfig]:
    """Load a model and its config, on the CPU unless ``options`` has a ``device_map``.

    If the config was trained with a packaged adapter, that one is merged. ``adapter`` is not; the caller adds it.

    Args:
        path: folder or hub id.
        adapter: path of the folder's ``adapter_config.json``, which names the model with the weights; ``None`` if the
            folder has none.
        options: for ``from_pretrained``; ``dtype`` as in ``EchoEncoder``.
        hub: further arguments that say where on the hub ``path`` is, such as ``revision``.
    """
    options = dict(options)
    dtype = options.pop("dtype", None) or options.pop("torch_dtype", None) or "auto"
    spec = ModelSpec(path, device="cpu", dtype=dtype, model_kwargs=options | hub)
    config = config_for(spec)
    if adapter is not None:
        base = json.loads(Path(adapter).read_text(encoding="utf-8"))["base_model_name_or_path"]
        # A packaged adapter belongs to the built-in model, wherever that was stored when ``adapter`` was trained.
        is_builtin = config.packaged_adapter is not None or base == builtin.NAME
        spec = ModelSpec(None if is_builtin else base, device="cpu", dtype=dtype, model_kwargs=options)
    loaded = load_model(spec.for_config(config))
    switches.apply(loaded)
    return loaded, config


def in_numbers(config: EchoConfig, layers: Layers) -> EchoConfig:
    """A copy of ``config`` with layers as numbers: fractions would mean other layers once those above the exit go."""
    return config.replace(start_layer=layers.start, exit_layer=layers.exit, final_norm=layers.final_norm)
