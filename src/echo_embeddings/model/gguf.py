"""Models in one ``.gguf`` file: transformers takes the folder and the file name as two arguments."""

from __future__ import annotations

import os
from pathlib import Path

from echo_embeddings.errors import ModelError

__all__ = ["split_gguf"]


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
    if not path.is_file():
        raise ModelError(f"there is no GGUF file {name!r}; give the path of an existing .gguf file")
    return os.fspath(path.parent), {"gguf_file": path.name}
