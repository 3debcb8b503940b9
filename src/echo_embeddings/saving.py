"""Writing a loaded encoder to a folder, from which it loads again. Saving knows no text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError
from .modules import write_modules

if TYPE_CHECKING:
    from echo_embeddings.engine.runtime import Runtime

__all__ = ["folder_at", "save"]


def folder_at(path: str | os.PathLike[str]) -> Path:
    """A folder to write to, which may not be there yet.

    Raises:
        ConfigError: ``path`` is a file.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{os.fspath(path)!r} is a file; save_pretrained wants a folder to write to")
    return folder


def save(folder: Path, runtime: Runtime) -> None:
    """Write weights (layers that run, adapters merged), tokenizer, config, and what sentence-transformers wants.

    Raises:
        ConfigError: the weights are in int8.
    """
    from echo_embeddings.model.int8 import require_savable

    require_savable(runtime.backbone.model)
    layers = runtime.backbone.layers
    runtime.backbone.model.save_pretrained(folder)
    runtime.tokenizer.source.save_pretrained(folder)
    # Above the exit nothing is saved, so fractions and "the last layer" would mean something else there.
    numbers = {"start_layer": layers.start, "exit_layer": layers.exit, "final_norm": layers.final_norm}
    saved = runtime.config.replace(packaged_adapter=None, **numbers)  # that adapter is in the weights
    saved.save(folder)
    write_modules(folder, runtime.dimension, saved.pooling)
