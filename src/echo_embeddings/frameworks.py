"""Make and use the encoder behind a framework's class, such as LangChain's. Knows no framework itself."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from echo_embeddings.engine.awaited import Awaited

from .encoder import EchoEncoder
from .model import builtin
from .options import EncoderOptions
from .text.inputs import checked
from .types import Embedder

__all__ = ["MAKING", "Handle"]

Vectors = list[list[float]]  # plain floats, as both frameworks want them

# The fields of a framework's class from which its encoder is made.
MAKING = EncoderOptions.names() - {"model"} | {"model_name", "cache_folder"}


class Handle:
    """The encoder of a framework's object. It is made at once; its model is loaded at the first text.

    A deep copy shares the encoder; unpickling loads the weights again.

    Args:
        encoder: an embedder that exists already, or ``None`` to make one from ``fields``.
        fields: the fields in :data:`MAKING` that the user has set.
        query_kwargs: arguments for every call of ``encode_queries``.

    Raises:
        ConfigError: a field has a value that cannot work.
        ValueError: ``encoder`` is not an embedder, or both an encoder and fields that make one are given.
    """

    def __init__(self, encoder: Embedder | None, fields: dict[str, Any], query_kwargs: dict[str, Any]) -> None:
        self._arguments = (encoder, fields, query_kwargs)
        self._encoder = _made(fields) if encoder is None else _checked(encoder, fields)
        self._query_kwargs = query_kwargs
        self._awaited: Awaited[list[float]] = Awaited()

    @property
    def name(self) -> str:
        """The model's name."""
        return str(getattr(self._encoder, "model_name", type(self._encoder).__name__))

    def documents(self, texts: list[str], **kwargs: Any) -> Vectors:
        """Embed documents: one list of floats for each text."""
        vectors: Vectors = self._encoder.encode_documents(checked(texts), **kwargs).tolist()
        return vectors

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

    def __deepcopy__(self, memo: object) -> Handle:
        return self  # it never changes, and a copy would load the weights twice

    def __reduce__(self) -> tuple[type[Handle], tuple[Any, ...]]:
        return Handle, self._arguments


def _made(fields: dict[str, Any]) -> EchoEncoder:
    name, folder = fields.get("model_name", builtin.NAME), fields.get("cache_folder")
    if folder is not None and name == builtin.NAME:
        raise ValueError("cache_folder is for models from a hub; the built-in model is kept in the user's cache folder")
    model_kwargs = dict(fields.get("model_kwargs", {})) | ({} if folder is None else {"cache_dir": folder})
    if "device" in model_kwargs:
        raise ValueError("model_kwargs are for from_pretrained; device is a field of its own: device='cpu'")
    settings = {key: fields[key] for key in EncoderOptions.names() - {"model", "model_kwargs"} if key in fields}
    model = None if name == builtin.NAME else name
    return EchoEncoder.from_options(EncoderOptions(model=model, model_kwargs=model_kwargs, **settings))


def _checked(encoder: Any, fields: dict[str, Any]) -> Embedder:
    if not all(callable(getattr(encoder, verb, None)) for verb in ("encode_documents", "encode_queries")):
        raise ValueError(
            f"encoder is a {type(encoder).__name__}, which has no encode_documents and encode_queries; a loaded model "
            "goes in as EchoEncoder(model, tokenizer=tokenizer)"
        )
    if fields:
        raise ValueError(f"{min(fields)} is settled by the encoder that was given; set it there")
    embedder: Embedder = encoder
    return embedder
