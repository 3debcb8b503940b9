"""``EchoEncoder`` as LangChain's ``Embeddings``: names and types are translated, nothing is computed."""

from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    SkipValidation,
    ValidationInfo,
    field_validator,
)

from echo_embeddings import EchoConfig, Embedder
from echo_embeddings.frameworks import MAKING, Handle
from echo_embeddings.model import builtin

__all__ = ["EchoEmbeddings"]

KEYS = {"encode_kwargs": ["show_progress"], "query_encode_kwargs": ["instruction", "show_progress"]}


class EchoEmbeddings(BaseModel, Embeddings):
    """Text embeddings from a causal language model that reads the text twice.

    Nothing is loaded before the first text. An object never changes its vectors, may be used from several threads and
    event loops, and can be pickled.

    Args:
        model_name: or ``model``: a hub id, a folder, or a ``.gguf`` file; the built-in model if not given.
        encoder: an ``EchoEncoder``, or anything with the ``Embedder`` protocol, in place of a model.
        config, adapter, device, dtype, on_truncate, model_kwargs: as for ``EchoEncoder``.
        dimensions: keep the first so many, as the default is made for (512, 256).
        query_instruction: the task, for a query template with ``{instruction}``.
        cache_folder: where models from a hub are kept.
        encode_kwargs: for documents and queries: ``show_progress``.
        query_encode_kwargs: on top of these for queries: ``instruction``, ``show_progress``.
        show_progress: show a bar for documents.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=()
    )

    model_name: str = Field(builtin.NAME, alias="model")
    encoder: SkipValidation[Embedder] | None = None
    config: InstanceOf[EchoConfig] | str | None = None
    adapter: str | None = None
    device: str | None = None
    dtype: str = "auto"
    on_truncate: str = "warn"
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    dimensions: int | None = Field(None, gt=0, strict=True)
    query_instruction: str | None = None
    cache_folder: str | None = None
    encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    query_encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    show_progress: bool = False

    _handle: Handle = PrivateAttr()

    @field_validator("encode_kwargs", "query_encode_kwargs")
    @classmethod
    def _known_keys(cls, kwargs: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        valid = KEYS[str(info.field_name)]
        if unknown := sorted(set(kwargs) - set(valid)):
            raise ValueError(
                f"unknown key {unknown[0]!r}; valid: {', '.join(valid)}. Batches are made by length, and vectors "
                "always have unit length"
            )
        return kwargs

    def model_post_init(self, _: Any) -> None:
        """Bring the fields together; nothing is loaded yet."""
        making = {name: getattr(self, name) for name in MAKING & self.model_fields_set}
        instruction = {} if self.query_instruction is None else {"instruction": self.query_instruction}
        self._handle = Handle(self.encoder, making, instruction | self.encode_kwargs | self.query_encode_kwargs)
        object.__setattr__(self, "model_name", self._handle.name)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed what is searched in."""
        kwargs = self.encode_kwargs | ({"show_progress": True} if self.show_progress else {})
        return self._handle.documents(texts, **kwargs)

    def embed_query(self, text: str) -> list[float]:
        """Embed what is searched for."""
        return self._handle.queries([text])[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Embed what is searched for; queries that come while the model is busy share a batch."""
        return await self._handle.aquery(text)

    @property
    def cache_namespace(self) -> str:
        """Everything that defines the vectors of documents, for ``CacheBackedEmbeddings``."""
        return self._handle.namespace("document")

    @property
    def query_cache_namespace(self) -> str:
        """The same for queries, which must never share a namespace with documents."""
        return self._handle.namespace("query")
