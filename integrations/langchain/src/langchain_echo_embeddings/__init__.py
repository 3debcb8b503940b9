"""Echo embeddings for LangChain."""

from .embeddings import EchoEmbeddings

__all__ = ["EchoEmbeddings"]
