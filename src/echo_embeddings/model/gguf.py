"""Models in one ``.gguf`` file: transformers takes the folder and the file name as two arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from echo_embeddings.errors import ModelError

__all__ = ["as_plain", "require_gguf", "split_gguf"]


def split_gguf(name: str) -> tuple[str, dict[str, str]]:
    """Split a model's name into what ``from_pretrained`` loads and the arguments that go with it.

    Args:
        name: a hub id, a folder, or the path of a ``.gguf`` file, in which ``~`` stands for the home folder.

    Returns:
        ``name`` and no arguments, or for a ``.gguf`` file its folder and ``{"gguf_file": its name}``.

    Raises:
        ModelError: ``name`` ends in ``.gguf`` and there is no such file.
    """
    if not name.endswith(".gguf"):
        return name, {}
    path = Path(name).expanduser()
    require_gguf(path)
    return os.fspath(path.parent), {"gguf_file": path.name}


def require_gguf(path: Path) -> None:
    """Check that there is a GGUF file.

    Raises:
        ModelError: there is none.
    """
    if not path.is_file():
        raise ModelError(f"there is no GGUF file {os.fspath(path)!r}; give the path of an existing .gguf file")


def as_plain(model: Any) -> None:
    """Let a model be saved as any other. Its weights are no longer quantised, but transformers says that they are."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
