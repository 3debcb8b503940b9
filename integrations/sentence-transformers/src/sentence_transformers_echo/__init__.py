"""Echo embeddings in sentence-transformers: its trainer, losses and tools on a model that reads the text twice.

>>> from echo_embeddings import EchoEncoder
>>> from sentence_transformers_echo import from_encoder
>>> model = from_encoder(EchoEncoder())                 # a SentenceTransformer
>>> vectors = model.encode_document(["The ferry leaves at dawn."])
"""

from .export import export_stock
from .folder import from_encoder, load, save
from .module import EchoModule

__all__ = ["EchoModule", "export_stock", "from_encoder", "load", "save"]
