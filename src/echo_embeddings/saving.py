"""Write a loaded encoder to a folder from which it can be loaded again. Saving knows no text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from echo_embeddings.engine.runtime import Runtime

__all__ = ["POOLING_MODES", "folder_at", "save", "write_modules"]

#: The poolings of an ``EchoConfig``, and their names in sentence-transformers.
POOLING_MODES = {"last": "lasttoken", "mean": "mean", "weighted_mean": "weightedmean"}


def folder_at(path: str | os.PathLike[str]) -> Path:
    """The folder to write to; it need not exist yet.

    Raises:
        ConfigError: ``path`` is a file.
    """
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{os.fspath(path)!r} is a file; save_pretrained wants a folder to write to")
    return folder


def save(folder: Path, runtime: Runtime) -> None:
    """Write the weights (the layers that run, adapters merged), tokenizer, config, and sentence-transformers' files.

    Raises:
        ConfigError: the weights are in int8.
    """
    from echo_embeddings.model.int8 import require_savable

    require_savable(runtime.backbone.model)
    layers = runtime.backbone.layers
    runtime.backbone.model.save_pretrained(folder)
    runtime.tokenizer.source.save_pretrained(folder)
    # Layers above the exit are not saved. In the smaller model, fractions and "the last layer" would be other layers.
    numbers = {"start_layer": layers.start, "exit_layer": layers.exit, "final_norm": layers.final_norm}
    saved = runtime.config.replace(packaged_adapter=None, **numbers)  # the adapter is merged into the weights
    saved.save(folder)
    write_modules(folder, runtime.dimension, saved.pooling)


def write_modules(folder: Path, dimension: int, pooling: str) -> None:
    """Write the files with which ``SentenceTransformer(folder, trust_remote_code=True)`` loads ``folder``.

    sentence-transformers is not imported.

    Args:
        folder: the folder with weights, tokenizer and ``echo_config.json``.
        dimension: number of dimensions of a vector, transforms applied.
        pooling: the config's, such as ``"mean"``.
    """
    types = {
        "": "sentence_transformers_echo.module.EchoModule",
        "1_Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    }
    keys = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    reason = (
        "its EchoModule lets the model read a text twice; install it from a checkout of echo-embeddings: "
        "pip install . ./integrations/sentence-transformers"
    )
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(types.items())
        ],
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            "requirements": {"sentence-transformers-echo": {"specifier": ">=0.1", "reason": reason}},
        },
        "1_Pooling/config.json": {
            "embedding_dimension": dimension,
            "pooling_mode": POOLING_MODES[pooling],
            "include_prompt": True,
        },
        "2_Normalize/config.json": keys,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
