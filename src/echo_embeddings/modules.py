"""The small files by which sentence-transformers knows a saved encoder; written without importing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["write_modules"]

_POOLING_MODES = {"last": "lasttoken", "mean": "mean", "weighted_mean": "weightedmean"}


def write_modules(folder: Path, dimension: int, pooling: str) -> None:
    """Make ``folder`` one that ``SentenceTransformer(folder, trust_remote_code=True)`` loads.

    Args:
        folder: where weights, tokenizer and ``echo_config.json`` are.
        dimension: length of a vector, transforms applied.
        pooling: as in the config.
    """
    types = {
        "": "sentence_transformers_echo.module.EchoModule",
        "1_Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    }
    keys = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    reason = "its EchoModule lets the model read a text twice"
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
            "pooling_mode": _POOLING_MODES[pooling],
            "include_prompt": True,
        },
        "2_Normalize/config.json": keys,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
