"""Requests and answers as OpenAI's clients have them."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from echo_embeddings.types import Role, Vectors

from .errors import ApiError
from .options import MOST_INPUTS

__all__ = [
    "QUERY",
    "EmbeddingRequest",
    "Embeddings",
    "ErrorAnswer",
    "Model",
    "Models",
    "embeddings",
    "role_of",
    "texts_of",
]

#: What stands behind a model's name where texts are queries.
QUERY = ":query"

_INPUT = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MOST_INPUTS},
    ],
    "description": f"A text, or a list of up to {MOST_INPUTS} texts.",
}
_ROLES: dict[str, Role] = {
    "document": "document",
    "query": "query",
    "search_document": "document",
    "search_query": "query",
    "passage": "document",
}


class EmbeddingRequest(BaseModel):
    """The body of ``POST /v1/embeddings``: OpenAI's fields, and two that say how a text is read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: Annotated[Any, WithJsonSchema(_INPUT)]
    model: Annotated[str, Field(description="The model's name; with ':query' behind it texts are embedded as queries.")]
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Field(description="base64 is of float32, or output_dtype, little-endian.")
    ] = "float"
    dimensions: Annotated[int | None, Field(ge=1, description="Keep only the first dimensions of each vector.")] = None
    output_dtype: Annotated[
        Literal["float", "float32", "float16", "int8", "ubinary"] | None,
        Field(description="The precision of the vectors, as of EchoEncoder; float is float32."),
    ] = None
    user: Annotated[str | None, Field(description="Taken, and not used.")] = None
    input_type: Annotated[
        Literal["document", "query", "search_document", "search_query", "passage"] | None,
        Field(description="What the texts are; without it, what the model's name says."),
    ] = None
    instruction: Annotated[
        str | None, Field(description="The task, for queries of a model whose template has a place for it.")
    ] = None


class _Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[int] | str


class _Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The answer to ``POST /v1/embeddings``."""

    object: Literal["list"]
    data: list[_Embedding]
    model: str
    usage: _Usage


class Model(BaseModel):
    """A name to ask for, and what vectors it gives."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "echo-embeddings"
    role: Role
    dimensions: int
    max_length: int


class Models(BaseModel):
    """The answer to ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[Model]


class _Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The answer to a request that cannot be answered."""

    error: _Error


def texts_of(given: Any) -> list[str]:
    """The texts of a request's ``input``.

    Raises:
        ApiError: there are none, too many, or something else than texts; it says which, and what to do.
    """
    texts: list[Any] = given if isinstance(given, list) else [given]
    if not texts:
        raise _bad("input is an empty list; give a text or a list of texts")
    if _is_tokens(texts) or any(isinstance(text, list) and _is_tokens(text) for text in texts):
        raise _bad(
            "input holds token ids, and those of another model's tokenizer mean nothing here; send the texts. "
            "LangChain: OpenAIEmbeddings(..., check_embedding_ctx_length=False)"
        )
    if len(texts) > MOST_INPUTS:
        raise _bad(f"input has {len(texts)} texts, and a request at most {MOST_INPUTS}; send several requests")
    for i, text in enumerate(texts):
        place = f"input[{i}]" if isinstance(given, list) else "input"
        if not isinstance(text, str):
            raise _bad(f"{place} is {_named(text)}, not a string; give a text or a list of texts")
        if not text:
            raise _bad(f"{place} is an empty string; leave it out")
    return texts


def role_of(request: EmbeddingRequest, name: str) -> Role:
    """What the texts of a request are.

    Args:
        request: its ``model`` is ``name``, or that with ``:query`` behind it.
        name: the model's name.

    Raises:
        ApiError: there is no such model, or ``model`` and ``input_type`` contradict each other.
    """
    if request.model not in (name, name + QUERY):
        raise ApiError(
            404,
            f"there is no model {request.model!r:.200} here; use {name!r} for documents and {name + QUERY!r} for "
            "queries",
            param="model",
            code="model_not_found",
        )
    asked = None if request.input_type is None else _ROLES[request.input_type]
    if request.model == name:
        return asked or "document"
    if asked == "document":
        raise ApiError(
            400,
            f"model={request.model!r} is for queries, and input_type={request.input_type!r} for documents; leave one "
            "of them out",
            param="input_type",
        )
    return "query"


def embeddings(vectors: Vectors, model: str, tokens: int, *, as_base64: bool) -> bytes:
    """The JSON of an answer.

    Args:
        vectors: ``[n, width]``.
        model: as it was asked for.
        tokens: how many were read.
        as_base64: whether a vector is the base64 of its bytes, little-endian; else a list of numbers.
    """
    rows = np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("<"))
    written = [base64.b64encode(row).decode() for row in rows] if as_base64 else list(rows)
    content = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(written)],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _bad(message: str) -> ApiError:
    return ApiError(400, message, param="input")


def _is_tokens(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def _named(value: Any) -> str:
    kinds = {bool: "true or false", type(None): "null", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"the number {value!r:.40}")
