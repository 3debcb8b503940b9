"""Weights, tokenizer and config as the core loads them, and a config for what is kept of the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from echo_embeddings import EchoConfig
from echo_embeddings.config.config import Layers
from echo_embeddings.model import builtin
from echo_embeddings.model.spec import Source

__all__ = ["in_numbers", "load"]


def load(
    path: str, adapter: str | None, options: dict[str, Any], hub: dict[str, Any]
) -> tuple[PreTrainedModel, Any, EchoConfig]:
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
    source = Source(path, device="cpu", dtype=dtype, model_kwargs=options | hub)
    config = source.config()
    if adapter is not None:
        base = json.loads(Path(adapter).read_text(encoding="utf-8"))["base_model_name_or_path"]
        # Under a packaged adapter lies the built-in model, wherever its folder was when this one was trained.
        is_builtin = config.packaged_adapter is not None or base == builtin.NAME
        source = Source(None if is_builtin else base, device="cpu", dtype=dtype, model_kwargs=options)
    return *source.for_config(config).load(), config


def in_numbers(config: EchoConfig, layers: Layers) -> EchoConfig:
    """``config`` for the model without the layers above the exit, where fractions would mean something else."""
    return config.replace(start_layer=layers.start, exit_layer=layers.exit, final_norm=layers.final_norm)
