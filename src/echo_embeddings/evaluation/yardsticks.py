"""Any model of sentence-transformers beside ours, through mteb's own wrapper for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mteb import SentenceTransformerEncoderWrapper
from mteb.models.model_meta import ModelMeta

from echo_embeddings.errors import ModelError

from .mteb_model import local_name

__all__ = ["Yardstick"]


class Yardstick(SentenceTransformerEncoderWrapper):  # type: ignore[misc]  # mteb is read without types
    """A model of sentence-transformers, with the prompts and the maximum length that are saved with it.

    mteb names one from a folder ``no_model_name/available``, and would take any other one's results for its own; this
    one has its weights and settings in its name.

    Args:
        name: hub id or folder.

    Raises:
        ModelError: it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        try:
            super().__init__(name)
        except Exception as error:  # what is damaged has an error of its own in each library below
            raise ModelError(f"the yardstick {name!r} could not be loaded: {error}") from error
        is_hub = not Path(name).exists() and name.count("/") == 1
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": name if is_hub else local_name(name), "revision": _fingerprint(self.model)[:16]}
        )
        self.show: Callable[[str, int, int], object] = lambda *_: None
        self.unfinished: Path | None = None  # it is not asked to keep vectors

    def encode(self, inputs: Any, **options: Any) -> Any:
        """Embed what a task asks for, as mteb's wrapper does."""
        total = len(inputs.dataset)
        self.show("texts", 0, total)
        found = super().encode(inputs, **options)
        self.show("texts", total, total)
        return found


def _fingerprint(model: Any) -> str:
    sha = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    settings = (model.prompts, model.default_prompt_name, model.max_seq_length, model.similarity_fn_name)
    parts = [(type(part).__name__, sorted(_config(part).items())) for part in model]
    sha.update(repr((*settings, model.truncate_dim, parts)).encode())
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    if hasattr(tokenizer, "to_str"):
        sha.update(tokenizer.to_str().encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def _config(part: Any) -> dict[str, Any]:
    """What is saved of a module besides weights, such as the mode of a pooling."""
    found: dict[str, Any] = part.get_config_dict() if hasattr(part, "get_config_dict") else {}
    return found
