"""Echo embeddings in sentence-transformers: use its trainer, losses and tools with a model that reads the text twice.

>>> from echo_embeddings import EchoEncoder
>>> from sentence_transformers_echo import from_encoder
>>> model = from_encoder(EchoEncoder())                 # a SentenceTransformer
>>> vectors = model.encode_document(["The ferry leaves at dawn."])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export import export_stock
    from .folder import from_encoder, load, save
    from .module import EchoModule

__all__ = ["EchoModule", "export_stock", "from_encoder", "load", "save"]

# Imported at the first use, so that the help of a command need not wait for torch and sentence-transformers.
_HOMES = {
    "export_stock": ".export",
    "from_encoder": ".folder",
    "load": ".folder",
    "save": ".folder",
    "EchoModule": ".module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
