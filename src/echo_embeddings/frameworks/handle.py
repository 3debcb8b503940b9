"""Make and use the encoder behind a framework's class, such as LangChain's. Knows no framework itself."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.engine.awaited import Awaited
from echo_embeddings.errors import ConfigError
from echo_embeddings.forking import ForkLock
from echo_embeddings.model import builtin
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.inputs import checked
from echo_embeddings.types import Embedder, require_chunking

from .foreign import split_model_kwargs

__all__ = ["MAKING", "Handle"]

Vectors = list[list[float]]  # plain floats, as both frameworks want them

# The fields of a framework's class from which its encoder is made.
MAKING = EncoderOptions.names() - {"model"} | {"model_name", "cache_folder"}


class Handle:
    """The encoder of a framework's object. Its model is loaded at the first text.

    A deep copy shares the encoder; unpickling loads the weights again.

    Args:
        encoder: an embedder that exists already, or ``None`` to make one from ``making``.
        making: the fields in :data:`MAKING` that the user has set.
        query_kwargs: arguments for every call of ``encode_queries``.
        prompts: what stands before every document and before every query; ``None`` for nothing.

    Raises:
        ConfigError: a field has a value that cannot work.
        ValueError: ``encoder`` is not an embedder, both an encoder and fields that make one are given, or an argument
            of another library cannot be.
    """

    def __init__(
        self,
        encoder: Embedder | None,
        making: dict[str, Any],
        query_kwargs: dict[str, Any],
        prompts: tuple[str | None, str | None] = (None, None),
    ) -> None:
        self._arguments = (encoder, making, query_kwargs, prompts)
        self._options = _options(making) if encoder is None else None
        self._given = None if encoder is None else _checked(encoder, making)
        if any(prompts) and self._given is not None and not isinstance(self._given, EchoEncoder):
            raise ValueError(f"a prompt needs an EchoEncoder, and encoder is a {type(self._given).__name__}")
        self._query_kwargs, self._prompts = query_kwargs, prompts
        self._ready: Embedder | None = None
        self._lock = ForkLock("was making the encoder")
        self._awaited: Awaited[list[float]] = Awaited()

    def open(self) -> None:
        """Make the encoder. Refuse what cannot work, as far as it is known before anything is fetched or loaded.

        Raises:
            ConfigError: the query template has no place for the instruction, needs one, ...
        """
        encoder = self._made()
        if isinstance(encoder, EchoEncoder) and (config := encoder.known_config) is not None:
            self._require_fit(config)

    @property
    def name(self) -> str:
        """The model's name."""
        if self._options is not None:
            return str(self._options.model or builtin.NAME)
        return str(getattr(self._given, "model_name", type(self._given).__name__))

    def documents(self, texts: list[str], **kwargs: Any) -> Vectors:
        """Embed documents: one list of floats for each text."""
        vectors: Vectors = self._encoder.encode_documents(checked(texts), **kwargs).tolist()
        return vectors

    def require_chunking(self) -> None:
        """Refuse what cannot embed chunks, before anything is split, fetched or loaded.

        Raises:
            ConfigError: the config has no vectors for chunks.
            TypeError: the embedder has no ``encode_chunks``.
        """
        require_chunking(self._made())

    def chunks(self, documents: list[str], spans: list[list[tuple[int, int]]]) -> list[Vectors]:
        """Embed chunks of documents, each in its context: for each document one list of floats a chunk.

        Args:
            documents: the texts.
            spans: first and last-plus-one character of each chunk of each text.

        Raises:
            ConfigError, TypeError: as :meth:`require_chunking`.
        """
        self.require_chunking()
        encoder: Any = self._encoder
        return [rows.tolist() for rows in encoder.encode_chunks(documents, spans)]

    def queries(self, texts: list[str]) -> Vectors:
        """Embed queries: one list of floats for each text."""
        vectors: Vectors = self._encoder.encode_queries(checked(texts), **self._query_kwargs).tolist()
        return vectors

    async def aquery(self, text: str) -> list[float]:
        """Embed one query; queries that arrive while the model is busy share a batch."""
        return await self._awaited(text, self.queries, "query")

    async def adocument(self, text: str) -> list[float]:
        """Embed one document; documents that arrive while the model is busy share a batch."""
        return await self._awaited(text, self.documents, "document")

    def namespace(self, role: str) -> str:
        """A prefix for cache keys, safe in a file name. It differs wherever vectors may differ.

        Args:
            role: ``"document"`` or ``"query"``.

        Raises:
            ValueError: the embedder is no ``EchoEncoder`` and has no ``__repr__`` of its own.
        """
        embedder = self._encoder
        if isinstance(embedder, EchoEncoder):
            vectors = embedder.fingerprint()
        elif (vectors := repr(embedder)) == object.__repr__(embedder):
            raise ValueError(
                f"nothing tells one {self.name} from another, so its vectors must not be cached under this name; give "
                "the class a __repr__ that says what its vectors depend on, or turn the cache off"
            )
        instruction = self._query_kwargs.get("instruction") if role == "query" else None
        digest = hashlib.sha256(repr((self.name, vectors, instruction)).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9]+', '-', self.name)}-{digest[:24]}-{role}-"

    def keeps_roles_apart(self) -> bool:
        """Whether a text may have one vector as a query and another as a document; true also if that is unknown."""
        embedder = self._encoder
        if not isinstance(embedder, EchoEncoder) or "instruction" in self._query_kwargs:
            return True
        return embedder.config.tells_roles_apart

    @property
    def _encoder(self) -> Embedder:
        if self._ready is None:
            with self._lock:
                encoder = self._made()
                if isinstance(encoder, EchoEncoder):
                    self._require_fit(encoder.config)
                    encoder = _prompted(encoder, self._prompts)
                self._ready = encoder
        return self._ready

    def _made(self) -> Embedder:
        with self._lock:
            if self._given is None:
                self._given = EchoEncoder.from_options(self._options or EncoderOptions())
            return self._given

    def _require_fit(self, config: EchoConfig) -> None:
        document, query = config.templates
        instruction, prompt = self._query_kwargs.get("instruction"), self._prompts[1]
        if document.takes_instruction and document.instruction is None and not self._prompts[0]:
            raise ConfigError(
                f"the document template {document.text!r} needs an instruction, and no call gives one; give it a "
                "default: Template(..., instruction='...')"
            )
        if instruction is not None and prompt and query.takes_instruction:
            raise ConfigError(f"prompt={prompt!r} and instruction={instruction!r} both say what {{instruction}} is")
        if query.takes_instruction and query.instruction is None and instruction is None and not prompt:
            raise ConfigError(f"the query template {query.text!r} needs an instruction; pass query_instruction='...'")
        if instruction is not None:
            query.literals(instruction)

    def __deepcopy__(self, memo: object) -> Handle:
        return self  # it never changes, and a copy would load the weights twice

    def __reduce__(self) -> tuple[type[Handle], tuple[Any, ...]]:
        return Handle, self._arguments


def _options(making: dict[str, Any]) -> EncoderOptions:
    name, folder = making.get("model_name", builtin.NAME), making.get("cache_folder")
    if folder is not None and name == builtin.NAME:
        raise ValueError("cache_folder is for models from a hub; the built-in model is kept in the user's cache folder")
    model_kwargs, device = split_model_kwargs(making.get("model_kwargs", {}))
    if device is not None and making.get("device") not in (None, device):
        raise ValueError(f"device={making['device']!r} and model_kwargs={{'device': {device!r}}}: give one of them")
    if device is not None and making.get("devices") is None:
        making = making | {"device": device}
    if folder is not None:
        model_kwargs["cache_dir"] = folder
    settings = {key: making[key] for key in EncoderOptions.names() - {"model", "model_kwargs"} if key in making}
    return EncoderOptions(model=None if name == builtin.NAME else name, model_kwargs=model_kwargs, **settings)


def _prompted(encoder: EchoEncoder, prompts: tuple[str | None, str | None]) -> EchoEncoder:
    if not any(prompts):
        return encoder
    templates = zip(encoder.config.templates, prompts, strict=True)
    document, query = (template.prompted(prompt) if prompt else template for template, prompt in templates)
    return encoder.with_config(encoder.config.replace(template=document, query_template=query))


def _checked(encoder: Any, making: dict[str, Any]) -> Embedder:
    if not all(callable(getattr(encoder, verb, None)) for verb in ("encode_documents", "encode_queries")):
        raise ValueError(
            f"encoder is a {type(encoder).__name__}, which has no encode_documents and encode_queries; a loaded model "
            "goes in as EchoEncoder(model, tokenizer=tokenizer)"
        )
    if making:
        raise ValueError(f"{min(making)} is settled by the encoder that was given; set it there")
    embedder: Embedder = encoder
    return embedder
