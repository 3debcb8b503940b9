"""Weights, tokenizer and config as the core loads them, and a config for what is kept of the weights."""

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
    """Load on the CPU, unless ``options`` has a ``device_map``.

    A packaged adapter that the config was trained with is merged; ``adapter`` is not, it goes on top.

    Args:
        path: folder or hub id.
        adapter: its ``adapter_config.json``, which names the model that the weights are taken from.
        options: for ``from_pretrained``; ``dtype`` as in ``EchoEncoder``.
        hub: where on the hub ``path`` is found.
    """
    options = dict(options)
    dtype = options.pop("dtype", None) or options.pop("torch_dtype", None) or "auto"
    spec = ModelSpec(path, device="cpu", dtype=dtype, model_kwargs=options | hub)
    config = config_for(spec)
    if adapter is not None:
        base = json.loads(Path(adapter).read_text(encoding="utf-8"))["base_model_name_or_path"]
        # Under a packaged adapter lies the built-in model, wherever its folder was when this one was trained.
        is_builtin = config.packaged_adapter is not None or base == builtin.NAME
        spec = ModelSpec(None if is_builtin else base, device="cpu", dtype=dtype, model_kwargs=options)
    loaded = load_model(spec.for_config(config))
    switches.apply(loaded)
    return loaded, config


def in_numbers(config: EchoConfig, layers: Layers) -> EchoConfig:
    """``config`` for the model without the layers above the exit, where fractions would mean something else."""
    return config.replace(start_layer=layers.start, exit_layer=layers.exit, final_norm=layers.final_norm)
