"""``EchoEncoder`` as LangChain's ``Embeddings``: this module translates names and types, and computes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, Literal

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    SkipValidation,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from echo_embeddings import EchoConfig, Embedder
from echo_embeddings.chunking import spans_of
from echo_embeddings.frameworks.foreign import encoding, foreign_fields, named_prompt
from echo_embeddings.frameworks.handle import MAKING, Handle
from echo_embeddings.model import builtin
from echo_embeddings.text.inputs import checked

__all__ = ["EchoEmbeddings"]

# Within `late_chunks`: whose vectors are made already, and for each text those of its chunks, in their order.
_Made = tuple[Handle, dict[str, deque[list[float]]]]
_made: ContextVar[_Made | None] = ContextVar("langchain_echo_embeddings_made", default=None)


class EchoEmbeddings(BaseModel, Embeddings):
    """Text embeddings from a causal language model that reads the text twice.

    Nothing is loaded before the first text. An object always gives a text the same vector, may be used from several
    threads and event loops, and can be pickled.

    Args:
        model_name: a hub id, a folder, or a ``.gguf`` file; also accepted as ``model``. Default: the built-in model.
        encoder: an ``EchoEncoder``, or any object with the methods of ``Embedder``, instead of a model.
        config, adapter, device, devices, dtype, compiled, max_length, batch_tokens, speed, on_truncate: as in
            ``EchoEncoder``.
        model_kwargs: for transformers' ``from_pretrained``; also ``device``, ``prompts`` and ``default_prompt_name``,
            as ``SentenceTransformer`` has them.
        dimensions: keep only the first dimensions of each vector, such as 256; the default config is made for 512 and
            256. ``None`` for all.
        precision: ``"float32"``, ``"float16"``, or ``"int8"`` and ``"ubinary"``, which are lists of whole numbers: for
            a vector store that takes them. As in ``EchoEncoder``.
        query_instruction: the task, for a query template with ``{instruction}``.
        cache_folder: where models from a hub are stored; ``None`` for the hub's default.
        encode_kwargs: arguments for documents, and for queries where ``query_encode_kwargs`` has none: ``prompt`` or
            ``prompt_name``, ``show_progress``, ``device``. Others of ``SentenceTransformer.encode`` may stand there
            if they ask for what is true anyway, as ``normalize_embeddings=True``, or for nothing, as ``batch_size``.
        query_encode_kwargs: the same for queries, and ``instruction``.
        show_progress: show a progress bar for documents (default: no).

    Raises:
        ValueError: a field is unknown or has a value that cannot work. If fields do not fit the model's config, it is a
            ``ConfigError``.
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
    precision: str = "float32"
    max_length: Annotated[int, Field(gt=0, strict=True)] | Literal["context"] | None = None
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

    if TYPE_CHECKING:
        # For type checkers, which would take a field with an alias by the alias alone.
        def __init__(  # noqa: PLR0913 - all by name
            self,
            *,
            model_name: str = ...,
            model: str = ...,
            encoder: Embedder | None = ...,
            config: EchoConfig | str | None = ...,
            adapter: str | None = ...,
            device: str | None = ...,
            devices: list[str] | None = ...,
            dtype: str = ...,
            compiled: bool = ...,
            dimensions: int | None = ...,
            precision: str = ...,
            max_length: int | Literal["context"] | None = ...,
            batch_tokens: int | None = ...,
            speed: dict[str, bool] | bool | None = ...,
            on_truncate: str = ...,
            model_kwargs: dict[str, Any] = ...,
            query_instruction: str | None = ...,
            cache_folder: str | None = ...,
            encode_kwargs: dict[str, Any] = ...,
            query_encode_kwargs: dict[str, Any] = ...,
            show_progress: bool = ...,
        ) -> None: ...

    else:

        def __init__(self, **data: Any) -> None:
            super().__init__(**data)
            self._handle.open()

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        kept, refused = foreign_fields(data, {*cls.model_fields, "model"})
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

    @field_validator("encode_kwargs", "query_encode_kwargs")
    @classmethod
    def _known_keys(cls, kwargs: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        encoding(kwargs, query=info.field_name == "query_encode_kwargs")
        return kwargs

    def model_post_init(self, _: Any) -> None:
        """Prepare the encoder from the fields. Nothing is loaded yet."""
        making = {name: getattr(self, name) for name in MAKING & self.model_fields_set}
        documents = encoding(self.encode_kwargs, query=False)
        queries = encoding(self.encode_kwargs | self.query_encode_kwargs, query=True)
        for device in {documents.device, queries.device} - {None}:
            if making.setdefault("device", device) != device:
                raise ValueError(
                    f"device={making['device']!r} and device={device!r} in encode_kwargs: give one of them"
                )
        # As in HuggingFaceEmbeddings, the prompt of documents is that of queries only if queries have no arguments.
        asked = encoding(self.query_encode_kwargs, query=True) if self.query_encode_kwargs else documents
        prompts = (
            named_prompt(documents, self.model_kwargs, ["document", "passage", "corpus"]),
            named_prompt(asked, self.model_kwargs, ["query"]),
        )
        query_kwargs: dict[str, Any] = {} if not queries.show_progress else {"show_progress": True}
        if instruction := queries.instruction or self.query_instruction:
            query_kwargs["instruction"] = instruction
        self._handle = Handle(self.encoder, making, query_kwargs, prompts)
        object.__setattr__(self, "model_name", self._handle.name)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents: one list of floats of unit length for each text."""
        made = _made.get()
        if made is None or made[0] is not self._handle:
            return self._embedded(texts)
        listed = checked(texts)
        found = [_taken(made[1].get(text)) for text in listed]
        others = [text for text, vector in zip(listed, found, strict=True) if vector is None]
        embedded = iter(self._embedded(others) if others else [])
        return [next(embedded) if vector is None else vector for vector in found]

    def _embedded(self, texts: list[str]) -> list[list[float]]:
        show_progress = self.show_progress or encoding(self.encode_kwargs, query=False).show_progress
        return self._handle.documents(texts, **({"show_progress": True} if show_progress else {}))

    def embed_chunks(self, documents: Iterable[Document], splitter: Any) -> tuple[list[Document], list[list[float]]]:
        """Split documents, and embed each chunk from token states that have seen its whole document (late chunking).

        Args:
            documents: whole documents; long ones are read in stretches (``EchoEncoder.encode_chunks``).
            splitter: a text splitter, or anything else that ``echo_embeddings.chunking.spans_of`` takes.

        Returns:
            The chunks, with the metadata of their document and ``start_index``; and the vector of each, of unit length.

        Raises:
            TypeError: ``encoder`` is no ``EchoEncoder``; or the splitter is none; or a document is no ``Document``.
            ConfigError: the config pools what follows the text, of which chunks have none.
            InputError: the splitter gives a text that does not stand in its document.
        """
        self._handle.require_chunking()
        whole, split = _require_documents(documents), spans_of(splitter)
        spans = [[(start, end) for start, end in split(document.page_content)] for document in whole]
        vectors = self._handle.chunks([document.page_content for document in whole], spans)
        chunks = [
            Document(document.page_content[start:end], metadata={**document.metadata, "start_index": start})
            for document, own in zip(whole, spans, strict=True)
            for start, end in own
        ]
        return chunks, [vector for rows in vectors for vector in rows]

    @contextmanager
    def late_chunks(self, documents: Iterable[Document], splitter: Any) -> Iterator[list[Document]]:
        """Split documents into chunks that any vector store can add, with late-chunked vectors.

        Within the block, this object gives the chunks the vectors that :meth:`embed_chunks` made; other texts are
        embedded as usual. So the vector store must have been made with this object::

            with embeddings.late_chunks(documents, splitter) as chunks:
                store.add_documents(chunks)

        Args:
            documents: as for :meth:`embed_chunks`.
            splitter: as for :meth:`embed_chunks`.
        """
        chunks, vectors = self.embed_chunks(documents, splitter)
        by_text: dict[str, deque[list[float]]] = {}
        for chunk, vector in zip(chunks, vectors, strict=True):
            by_text.setdefault(chunk.page_content, deque()).append(vector)
        token = _made.set((self._handle, by_text))
        try:
            yield chunks
        finally:
            _made.reset(token)

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


def _require_documents(documents: Iterable[Document]) -> list[Document]:
    alone = isinstance(documents, str | Document)  # both could be iterated
    whole: list[Any] = [documents] if alone else list(documents)
    wrong = next((one for one in whole if alone or not isinstance(one, Document)), None)
    if wrong is not None:
        raise TypeError(
            f"documents must be a list of Document, not {type(wrong).__name__} ({wrong!r:.40}); pass [document], or "
            "[Document(page_content=text) for text in texts]"
        )
    return whole


def _taken(vectors: deque[list[float]] | None) -> list[float] | None:
    """The next vector of a chunk within ``late_chunks``. The last one of a text stays: a store may try again."""
    if not vectors:
        return None
    return vectors.popleft() if len(vectors) > 1 else vectors[0]
