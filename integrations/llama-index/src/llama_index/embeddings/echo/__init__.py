"""Echo embeddings for LlamaIndex."""

from .base import EchoEmbedding

__all__ = ["EchoEmbedding"]
