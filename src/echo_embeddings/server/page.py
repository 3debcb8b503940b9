"""The page at ``/``: a query and documents, their similarities by echo and by a classical embedding, and attention."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import EchoError
from echo_embeddings.types import Vectors

from .errors import ApiError
from .gate import note, unless_gone
from .service import Service

__all__ = ["EXPLANATIONS", "add_page"]

#: Where explanations are shown. A frame sends no key, and nobody can guess their names.
EXPLANATIONS = "/page/explanations/"

# How many explanations are kept, so that the frame of the page can show them.
_KEPT = 16
_MOST_DOCUMENTS = 32

_Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class _Comparison(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    query: _Text
    documents: Annotated[list[_Text], Field(min_length=1, max_length=_MOST_DOCUMENTS)]


class _Explained(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    text: _Text


def add_page(app: FastAPI, service: Service, name: str, explain: Callable[[str], str] | None) -> None:
    """Add the page, and what it asks for, to an application.

    Args:
        app: the application.
        service: its encoder.
        name: the model's name.
        explain: makes a page about a text; ``None`` leaves that part out.
    """
    content, headers = _page(name, has_explanations=explain is not None)
    classical = _Classical(service.encoder)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    @app.post("/page/compare", include_in_schema=False)
    async def compare(asked: _Comparison, request: Request) -> dict[str, list[float]]:
        note(request, texts=2 * (1 + len(asked.documents)))
        with service.accepted(1 + len(asked.documents)):
            return await unless_gone(request, _compared(service, classical, asked))

    if explain is not None:
        _add_explanations(app, explain)


async def _compared(service: Service, classical: _Classical, asked: _Comparison) -> dict[str, list[float]]:
    (query, documents), other = await asyncio.gather(
        asyncio.gather(service.embed([asked.query], "query"), service.embed(asked.documents, "document")),
        asyncio.to_thread(classical, asked.query, asked.documents),
    )
    return {"echo": (documents.vectors @ query.vectors[0]).tolist(), "classical": other.tolist()}


class _Classical:
    """The same model, reading each text once, without training. It is loaded when it is first asked for."""

    def __init__(self, encoder: EchoEncoder) -> None:
        self._encoder, self._lock = encoder, threading.Lock()
        self._other: EchoEncoder | None = None

    def __call__(self, query: str, documents: list[str]) -> Vectors:
        """The cosine of a query with each document."""
        with self._lock:
            if self._other is None:
                self._other = self._encoder.with_config(EchoConfig.preset("classical"))
        vectors = self._other.encode_documents([query, *documents])
        similarities: Vectors = vectors[1:] @ vectors[0]
        return similarities


def _add_explanations(app: FastAPI, explain: Callable[[str], str]) -> None:
    kept: OrderedDict[str, str] = OrderedDict()
    one_at_a_time = asyncio.Semaphore()

    @app.post("/page/explain", include_in_schema=False)
    async def explained(asked: _Explained) -> dict[str, str]:
        async with one_at_a_time:  # it loads the model
            try:
                page = await asyncio.to_thread(explain, asked.text)
            except EchoError as error:  # it speaks of this text only
                raise ApiError(400, str(error), param="text") from error
        kept[key := secrets.token_urlsafe(16)] = page
        if len(kept) > _KEPT:
            kept.popitem(last=False)
        return {"page": f"{EXPLANATIONS}{key}"}

    @app.get(EXPLANATIONS + "{key}", include_in_schema=False)
    async def explanation(key: str) -> Response:
        if key not in kept:
            raise ApiError(404, "this explanation is no longer kept; ask for it again")
        # It has a policy of its own in it, and runs in a frame that can reach nothing of this page.
        headers = {"Content-Security-Policy": "sandbox allow-scripts; frame-ancestors 'self'", **_PRIVATE}
        return Response(kept[key], media_type="text/html; charset=utf-8", headers=headers)


_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def _page(name: str, *, has_explanations: bool) -> tuple[str, dict[str, str]]:
    """The page, and headers that let it load, run and ask nothing but what is in it and this server."""
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    (script,), (style,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "img-src data:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    page = page.replace("@@NAME@@", html.escape(name)).replace("@@EXPLAINS@@", "yes" if has_explanations else "no")
    return page, {"Content-Security-Policy": policy, **_PRIVATE}


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
