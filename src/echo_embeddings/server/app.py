"""The application: an encoder behind OpenAI's ``/v1/embeddings``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.types import Role, require_encoder

from .errors import ApiError, of_http, of_validation
from .gate import Gate, note, unless_gone
from .keys import Keys
from .options import ServerOptions, checked
from .page import EXPLANATIONS, add_page
from .service import Service, require_dimensions
from .wire import QUERY, EmbeddingRequest, Embeddings, ErrorAnswer, Model, Models, embeddings, role_of, texts_of

__all__ = ["create_app"]

# For programs that look after others, and for browsers; they have no key.
_OPEN = frozenset({"/", "/health", "/openapi.json"})
_PATHS = frozenset({"/", "/health", "/metrics", "/openapi.json", "/v1/embeddings", "/v1/models"})
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request cannot be answered; the message says why."},
    "5XX": {"model": ErrorAnswer, "description": "The server failed."},
}
# In more texts than this, writing the answer would hold up the event loop.
_FEW = 64


def create_app(
    encoder: EchoEncoder, options: ServerOptions | None = None, *, explain: Callable[[str], str] | None = None
) -> FastAPI:
    """Make the ASGI application of an encoder, for a server of your own; :func:`serve` runs one.

    The weights are loaded when the application starts, before a server takes requests.

    Args:
        encoder: which vectors to serve. Made with ``on_truncate="ignore"`` it says nothing of long texts but in
            ``/metrics``; with ``"error"`` they are refused.
        options: name, keys and limits; ``None`` for the defaults.
        explain: makes a page about a text, such as that of ``evaluation.explain``, for the page at ``/``; ``None``
            leaves this part of the page out.

    Raises:
        TypeError: ``encoder`` or ``options`` is something else.
    """
    require_encoder(encoder)
    options = checked(options)
    service = Service(encoder, options.max_queue)
    name = options.name or service.name
    app = FastAPI(
        title="echo-embeddings",
        description="Text embeddings, as OpenAI's API has them.",
        docs_url=None,  # those pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=_loading(service),
    )
    app.state.service = service
    _add_embeddings(app, service, name)
    _add_models(app, service, name)
    _add_state(app, service)
    if options.page:
        add_page(app, service, name, explain)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_middleware(
        Gate,
        keys=Keys(options.api_keys),
        max_body=options.max_body,
        metrics=service.metrics,
        paths=_PATHS,
        is_open=lambda path: path in _OPEN or path.startswith(EXPLANATIONS),
    )
    if options.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "x-request-id"],
        )
    return app


def _loading(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.load)
        yield

    return lifespan


def _add_embeddings(app: FastAPI, service: Service, name: str) -> None:
    @app.post("/v1/embeddings", response_model=Embeddings, responses=_ERRORS, summary="Embed texts")
    async def embed(asked: EmbeddingRequest, request: Request) -> Response:
        texts, role = texts_of(asked.input), role_of(asked, name)
        require_dimensions(asked.dimensions, service.encoder.dimension)
        precision = service.require_precision(asked.output_dtype, asked.dimensions)
        note(request, model=asked.model, role=role, texts=len(texts))
        with service.accepted(len(texts)):
            found = await unless_gone(request, service.embed(texts, role, asked.instruction))
            note(request, tokens=found.tokens, truncated=found.truncated)

            def write() -> bytes:
                vectors = service.answered(found.vectors, asked.dimensions, precision)
                return embeddings(vectors, asked.model, found.tokens, as_base64=asked.encoding_format == "base64")

            content = write() if len(texts) <= _FEW else await asyncio.to_thread(write)
        return Response(content, media_type="application/json")


def _add_models(app: FastAPI, service: Service, name: str) -> None:
    created = int(time.time())

    def model(name: str, role: Role) -> Model:
        limit = service.encoder.engine.limit("document")
        return Model(id=name, created=created, role=role, dimensions=service.encoder.dimension, max_length=limit)

    def models() -> list[Model]:
        return [model(name, "document"), model(name + QUERY, "query")]

    @app.get("/v1/models", responses=_ERRORS, summary="Names to ask for")
    async def list_models() -> Models:
        return Models(data=models())

    @app.get("/v1/models/{model:path}", responses=_ERRORS, summary="What one name gives")
    async def retrieve_model(model: str) -> Model:
        found = [one for one in models() if one.id == model]
        if not found:
            raise ApiError(
                404,
                f"there is no model {model!r:.200} here; there are {name!r} and {name + QUERY!r}",
                param="model",
                code="model_not_found",
            )
        return found[0]


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the server takes requests")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/metrics",
        responses=_ERRORS,
        response_class=PlainTextResponse,
        summary="Counts and times, for Prometheus",
    )
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=service.metrics.content_type)
