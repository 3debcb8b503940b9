"""``EchoEncoder`` as LlamaIndex's ``BaseEmbedding``: this module translates names and types, and computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import (
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    SkipValidation,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import Self

from echo_embeddings import EchoConfig, Embedder
from echo_embeddings.frameworks.foreign import foreign_fields
from echo_embeddings.frameworks.handle import MAKING, Handle
from echo_embeddings.model import builtin
from echo_embeddings.text.inputs import checked
from echo_embeddings.text.truncation import in_one_call, one_call

__all__ = ["EchoEmbedding"]

# Before to_payload came, the base class called to_dict for every text, to tell of it, and not only to look up caches.
_ASKED_FOR_EVERY_TEXT = not hasattr(BaseEmbedding, "to_payload")


class EchoEmbedding(BaseEmbedding):
    """Text embeddings from a causal language model that reads the text twice.

    Nothing is loaded before the first text. An object always gives a text the same vector, may be used from several
    threads and event loops, and can be pickled. ``to_dict`` holds everything that defines a vector, so the cache of a
    pipeline never returns vectors of another model or config.

    Args:
        model_name: a hub id, a folder, or a ``.gguf`` file. Default: the built-in model.
        encoder: an ``EchoEncoder``, or any object with the methods of ``Embedder``, instead of a model.
        config, adapter, device, devices, dtype, compiled, max_length, batch_tokens, speed, on_truncate: as in
            ``EchoEncoder``.
        model_kwargs: for transformers' ``from_pretrained``.
        dimensions: keep only the first dimensions of each vector, such as 256; the default config is made for 512 and
            256. ``None`` for all.
        precision: ``"float32"``, ``"float16"``, or ``"int8"`` and ``"ubinary"``, which are lists of whole numbers: for
            a vector store that takes them. As in ``EchoEncoder``.
        query_instruction: the task, for a query template with ``{instruction}``.
        cache_folder: where models from a hub are stored; ``None`` for the hub's default.
        embed_batch_size: how many texts the encoder gets at once (default 1024). It sorts them by length into batches,
            so more are better: with a corpus of 2,000 texts, 256 at once took 5 % longer than all at once, 1024 took
            1 % longer.
        show_progress_bar: show a progress bar for documents (default: no).
        embeddings_cache: allowed only if queries and documents have the same template, because LlamaIndex stores both
            under the same key.

    Raises:
        ValueError: a field is unknown or has a value that cannot work. If fields do not fit the model's config, it is a
            ``ConfigError``.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    model_name: str = Field(default=builtin.NAME, frozen=True)
    encoder: SkipValidation[Embedder] | None = Field(default=None, exclude=True, frozen=True)
    config: InstanceOf[EchoConfig] | str | None = Field(default=None, frozen=True)
    adapter: str | None = Field(default=None, frozen=True)
    device: str | None = Field(default=None, frozen=True)
    dtype: str = Field(default="auto", frozen=True)
    on_truncate: str = Field(default="warn", frozen=True)
    model_kwargs: dict[str, Any] = Field(default_factory=dict, frozen=True)
    dimensions: int | None = Field(default=None, gt=0, strict=True, frozen=True)
    precision: str = Field(default="float32", frozen=True)
    max_length: Annotated[int, Field(gt=0, strict=True)] | Literal["context"] | None = Field(default=None, frozen=True)
    devices: list[str] | None = Field(default=None, frozen=True)
    compiled: bool = Field(default=False, frozen=True)
    batch_tokens: int | None = Field(default=None, gt=0, strict=True, frozen=True)
    speed: dict[str, bool] | bool | None = Field(default=None, frozen=True)
    query_instruction: str | None = Field(default=None, frozen=True)
    cache_folder: str | None = Field(default=None, frozen=True)
    show_progress_bar: bool = False
    embed_batch_size: int = Field(default=1024, gt=0, le=2048)
    embeddings_cache: Any = Field(default=None, frozen=True)

    _handle: Handle = PrivateAttr()

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in LlamaIndex's serialised objects."""
        return "EchoEmbedding"

    if not TYPE_CHECKING:  # type checkers shall see the fields

        def __init__(self, **data: Any) -> None:
            super().__init__(**data)
            self._handle.open()

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        kept, refused = foreign_fields(data, cls.model_fields)
        if refused:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError(
                        "extra_forbidden", "Extra inputs are not permitted; {instead}", {"instead": instead}
                    ),
                    loc=(name,),
                    input=data[name],
                )
                for name, instead in refused.items()
            ]
            raise ValidationError.from_exception_data(cls.__name__, details)
        return kept

    def model_post_init(self, _: Any) -> None:
        """Prepare the encoder from the fields. Nothing is loaded yet."""
        making = {name: getattr(self, name) for name in MAKING & self.model_fields_set}
        instruction = {"instruction": self.query_instruction} if self.query_instruction else {}
        self._handle = Handle(self.encoder, making, instruction)
        object.__setattr__(self, "model_name", self._handle.name)
        if self.embeddings_cache is not None and self._handle.keeps_roles_apart():
            raise ValueError(
                "embeddings_cache would give queries the vectors of documents, because LlamaIndex looks up both by the "
                "text alone; use the cache of IngestionPipeline, or a config whose query_template is None, and whose "
                "lexical part, if it has one, weighs the same in both roles"
            )

    @property
    def handle(self) -> Handle:
        """The encoder behind this object."""
        return self._handle

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The fields, and a namespace made from all that defines a vector: pipelines look up cached nodes by them."""
        try:
            vectors = self._handle.namespace("document")
        except ValueError:
            if not _ASKED_FOR_EVERY_TEXT:
                raise
            vectors = f"of the object {id(self._handle)} alone"
        return super().to_dict(**kwargs) | {"vectors": vectors}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Make an object from the result of ``to_dict``; an encoder or a config object must be given again."""
        return super().from_dict({key: value for key, value in data.items() if key != "vectors"}, **kwargs)

    @field_serializer("config")
    def _config_by_content(self, config: EchoConfig | str | None) -> str | None:
        return config.fingerprint() if isinstance(config, EchoConfig) else config

    def __reduce__(self) -> tuple[Any, ...]:
        # The base class would silently leave out fields that cannot be pickled.
        kept = self.model_fields_set - {"callback_manager", "rate_limiter"}
        return partial(type(self), **{name: getattr(self, name) for name in kept}), ()

    # The base class iterates over whatever it is given (the columns of a table, the letters of one text), and embeds in
    # several batches, which are one call to the user.

    def get_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,  # noqa: FBT001, FBT002 (as the base class has it)
        **kwargs: Any,
    ) -> list[list[float]]:
        """Embed documents: one list of floats for each text."""
        with one_call():
            return super().get_text_embedding_batch(checked(texts), show_progress, **kwargs)

    async def aget_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> list[list[float]]:
        """Await the vectors of documents."""
        with one_call():
            return await super().aget_text_embedding_batch(checked(texts), show_progress, **kwargs)

    def get_agg_embedding_from_queries(
        self, queries: list[str], agg_fn: Callable[..., list[float]] | None = None
    ) -> list[float]:
        """Embed queries, and join their vectors by ``agg_fn`` (default: the mean)."""
        with one_call():
            return super().get_agg_embedding_from_queries(checked(queries), agg_fn)

    async def aget_agg_embedding_from_queries(
        self, queries: list[str], agg_fn: Callable[..., list[float]] | None = None
    ) -> list[float]:
        """Await the joined vector of queries."""
        with one_call():
            return await super().aget_agg_embedding_from_queries(checked(queries), agg_fn)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._handle.queries([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        if in_one_call():  # which the thread of awaited queries, shared by all callers, would not know
            return await asyncio.to_thread(self._get_query_embedding, query)
        return await self._handle.aquery(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._handle.documents([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await self._handle.adocument(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._handle.documents(texts, **({"show_progress": True} if self.show_progress_bar else {}))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
