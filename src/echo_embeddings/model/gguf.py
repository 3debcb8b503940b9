"""Models in one ``.gguf`` file: transformers takes the folder and the file name as two arguments."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from echo_embeddings.errors import ModelError

from .weights import from_pretrained

__all__ = ["as_plain", "convert", "require_gguf", "split_gguf"]


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


def convert(
    source: Path,
    target: Path,
    check: Callable[[Any, Any], None] = lambda *_: None,
    dtype: str | None = None,
) -> None:
    """Write the model and the tokenizer of a GGUF file as transformers' own files, with weights in safetensors.

    Weights that the file has in float32 stay so. Others are written in float16, which has two or three more digits than
    bfloat16: the cosine of vectors to those of the file itself is above 0.99999 (tests/golden).

    Args:
        source: the GGUF file.
        target: a folder, which gets the files.
        check: gets the tokenizer as it is read from ``target`` and the model in float32, and refuses what is wrong.
        dtype: in which the weights are written, such as ``"bfloat16"``; ``None`` chooses as above.

    Raises:
        OSError: the disk is full; or what transformers raises for a file that it cannot read.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    model = from_pretrained(AutoModelForCausalLM, source.parent, gguf_file=source.name, dtype=torch.float32)
    check(AutoTokenizer.from_pretrained(target), model)
    as_plain(model)
    try:
        chosen = _dtype(model, source.stat().st_size) if dtype is None else getattr(torch, dtype)
        model.to(chosen).save_pretrained(target)
    except SafetensorError as error:
        if "os error 28" in str(error):  # the library knows no errno
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(target)) from error
        raise


def as_plain(model: Any) -> None:
    """Let a model be saved as any other. Its weights are no longer quantised, but transformers says that they are."""
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None


def _dtype(model: Any, size: int) -> Any:
    """The dtype for a model that was read from a file of ``size`` bytes.

    The file says it too, but to read its header takes nearly a minute where the vocabulary is large.
    """
    import torch

    weights = {id(weight): weight for weight in model.parameters()}.values()
    if 8 * size / sum(weight.numel() for weight in weights) >= 32:
        return torch.float32
    # Numbers of float16 end at 65504.
    return torch.float16 if all(weight.half().isfinite().all() for weight in weights) else torch.bfloat16
