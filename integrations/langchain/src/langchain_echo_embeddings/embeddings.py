"""``EchoEncoder`` as LangChain's ``Embeddings``: this module translates names and types, and computes nothing."""

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

    Nothing is loaded before the first text. An object always gives a text the same vector, may be used from several
    threads and event loops, and can be pickled.

    Args:
        model_name: a hub id, a folder, or a ``.gguf`` file; also accepted as ``model``. Default: the built-in model.
        encoder: an ``EchoEncoder``, or any object with the methods of ``Embedder``, instead of a model.
        config, adapter, device, devices, dtype, compiled, max_length, batch_tokens, speed, on_truncate: as in
            ``EchoEncoder``.
        model_kwargs: for transformers' ``from_pretrained``.
        dimensions: keep only the first dimensions of each vector, such as 256; the default config is made for 512 and
            256. ``None`` for all.
        query_instruction: the task, for a query template with ``{instruction}``.
        cache_folder: where models from a hub are stored; ``None`` for the hub's default.
        encode_kwargs: arguments for documents and queries: ``show_progress``.
        query_encode_kwargs: further arguments for queries only: ``instruction``, ``show_progress``.
        show_progress: show a progress bar for documents (default: no).

    Raises:
        ValueError: a field is unknown or has a value that cannot work.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=()
    )

    model_name: str = Field(default=builtin.NAME, alias="model")
    encoder: SkipValidation[Embedder] | None = None
    config: InstanceOf[EchoConfig] | str | None = None
    adapter: str | None = None
    device: str | None = None
    dtype: str = "auto"
    on_truncate: str = "warn"
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    dimensions: int | None = Field(default=None, gt=0, strict=True)
    max_length: int | None = Field(default=None, gt=0, strict=True)
    devices: list[str] | None = None
    compiled: bool = False
    batch_tokens: int | None = Field(default=None, gt=0, strict=True)
    speed: dict[str, bool] | bool | None = None
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
        """Make the encoder from the fields. Nothing is loaded yet."""
        making = {name: getattr(self, name) for name in MAKING & self.model_fields_set}
        instruction = {} if self.query_instruction is None else {"instruction": self.query_instruction}
        self._handle = Handle(self.encoder, making, instruction | self.encode_kwargs | self.query_encode_kwargs)
        object.__setattr__(self, "model_name", self._handle.name)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents: one list of floats of unit length for each text."""
        kwargs = self.encode_kwargs | ({"show_progress": True} if self.show_progress else {})
        return self._handle.documents(texts, **kwargs)

    def embed_query(self, text: str) -> list[float]:
        """Embed one query: a list of floats of unit length."""
        return self._handle.queries([text])[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Await the vector of one query; queries that arrive while the model is busy share a batch."""
        return await self._handle.aquery(text)

    @property
    def cache_namespace(self) -> str:
        """A namespace for ``CacheBackedEmbeddings``, made from everything that defines the vectors of documents."""
        return self._handle.namespace("document")

    @property
    def query_cache_namespace(self) -> str:
        """The namespace for queries, which must never share one with documents."""
        return self._handle.namespace("query")
