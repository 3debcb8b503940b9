"""Documents in, nodes with late-chunked vectors out: a transformation of LlamaIndex that computes nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.node_parser import NodeParser, SentenceSplitter
from llama_index.core.schema import BaseNode, MetadataMode, TransformComponent
from pydantic import ConfigDict, Field, SerializeAsAny

from echo_embeddings.chunking import spans_of

from .base import EchoEmbedding

__all__ = ["LateChunker"]


class LateChunker(TransformComponent):
    """Split documents into nodes, and embed each node from token states that have seen its whole document.

    It takes the place of a node parser and an embedding in an ``IngestionPipeline``. Its nodes have their vectors, so
    ``VectorStoreIndex`` and vector stores take them as they are; queries are embedded by ``embed_model``.

    Before a document stands its metadata, as LlamaIndex puts that of a node before the node
    (``excluded_embed_metadata_keys`` are left out). It is context that all nodes have seen, and in the vector of none.

    Args:
        node_parser: makes the nodes; their texts must stand in the document. Default: ``SentenceSplitter()``.
        embed_model: embeds them; its ``encoder`` must be an ``EchoEncoder``, as it is if none is given. Default: the
            built-in model.

    Raises:
        ConfigError: the config of ``embed_model`` pools what follows the text, of which nodes have none.
        TypeError: the encoder of ``embed_model`` is no ``EchoEncoder``.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    node_parser: SerializeAsAny[NodeParser] = Field(default_factory=SentenceSplitter)
    embed_model: EchoEmbedding = Field(default_factory=EchoEmbedding)

    if not TYPE_CHECKING:  # type checkers shall see the fields

        def __init__(self, **data: Any) -> None:
            super().__init__(**data)
            self.embed_model.handle.require_chunking()

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in LlamaIndex's serialised objects."""
        return "LateChunker"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The fields, and a namespace made from all that defines a vector: pipelines look up cached nodes by them."""
        return super().to_dict(**kwargs) | {"vectors": self.embed_model.handle.namespace("document")}

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Split and embed documents.

        Args:
            nodes: the documents.
            kwargs: ignored; pipelines pass ``show_progress`` and the like.

        Raises:
            InputError: the text of a node does not stand in its document.
            TypeError: something is no document.
        """
        del kwargs
        if wrong := [one for one in nodes if not isinstance(one, BaseNode)]:
            raise TypeError(
                f"nodes must be a list of documents, not {type(wrong[0]).__name__} ({wrong[0]!r:.40}); pass "
                "[Document(text=text) for text in texts]"
            )
        texts, spans, found = [], [], []
        for document in nodes:
            plain = document.get_content(metadata_mode=MetadataMode.NONE)
            metadata = document.get_metadata_str(mode=MetadataMode.EMBED)
            text = f"{metadata}\n\n{plain}" if metadata else plain
            before = len(text) - len(plain)
            own = self.node_parser.get_nodes_from_documents([document])  # type: ignore[list-item]  # any node will do
            texts.append(text)
            spans.append([(before + start, before + end) for start, end in spans_of(lambda _, own=own: own)(plain)])
            found.append(own)
        for own, rows in zip(found, self.embed_model.handle.chunks(texts, spans), strict=True):
            for node, row in zip(own, rows, strict=True):
                node.embedding = row
        return [node for own in found for node in own]

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Await the nodes; the event loop is never blocked."""
        return await asyncio.to_thread(self.__call__, nodes, **kwargs)
