"""Echo embeddings for LlamaIndex."""

from .base import EchoEmbedding
from .late_chunker import LateChunker

__all__ = ["EchoEmbedding", "LateChunker"]
