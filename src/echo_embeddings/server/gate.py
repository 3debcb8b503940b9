"""What every request passes on its way in and out: its key, its size, its id, its line in the log, its time."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Container, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, answer, unforeseen
from .keys import Keys
from .logs import log, where
from .metrics import Metrics

__all__ = ["Gate", "note", "unless_gone"]

Result = TypeVar("Result")

# For so many seconds the next part of a body is waited for.
_PATIENCE = 60.0
# Under this name a scope holds what the log is to say of its request.
_FACTS = "echo_embeddings.facts"
# What nginx calls a request whose client left before it was answered.
_GONE = 499


class _ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


def note(request: Request, **facts: Any) -> None:
    """Let the line of the log about a request say this too."""
    request.scope[_FACTS].update(facts)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await work for a request, and cancel it if the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _ClientGoneError
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Gate:
    """The outermost part of a server, as ASGI's middleware.

    Args:
        app: what is behind it.
        keys: who may pass.
        max_body: the most bytes of a body.
        metrics: where requests are counted.
        paths: those that are counted by their name.
        is_open: tells which need no key.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        max_body: int,
        metrics: Metrics,
        paths: Container[str],
        is_open: Callable[[str], bool],
    ) -> None:
        self._app, self._keys, self._max_body, self._metrics = app, keys, max_body, metrics
        self._paths, self._is_open = paths, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request. Whatever happens, it has an answer, a line in the log and a place in the counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._max_body)
        try:
            self._check(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except _ClientGoneError:
            exchange.gone = True
        except ApiError as error:
            await exchange.fail(error)
        except Exception as error:  # noqa: BLE001 - the client gets an answer, and the log the error
            log("error", logging.ERROR, id=exchange.id, **where(error))
            await exchange.fail(unforeseen(exchange.id))
        finally:
            self._count(exchange)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if not self._is_open(scope["path"]) and not self._keys.allow(headers.get(b"authorization")):
            raise ApiError(
                401,
                "the request has no valid API key; send the header Authorization: Bearer KEY, with a key of this "
                "server's",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            raise _too_long(self._max_body)

    def _count(self, exchange: _Exchange) -> None:
        path = exchange.scope["path"]
        status, seconds = exchange.status, time.perf_counter() - exchange.started
        self._metrics.request(path if path in self._paths else "other", status, seconds)
        log(
            "request",
            # What asks every few seconds shall not fill the log.
            logging.DEBUG if path in ("/health", "/metrics") and status == 200 else logging.INFO,
            id=exchange.id,
            client=(exchange.scope.get("client") or (None,))[0],
            method=exchange.scope["method"],
            path=path,
            status=status,
            ms=round(1000 * seconds, 1),
            **exchange.scope[_FACTS],
        )


class _Exchange:
    """One request and its answer, between uvicorn and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body: int) -> None:
        self.scope, self._receive, self._send, self._max_body = scope, receive, send, max_body
        self.id = f"req_{secrets.token_hex(12)}"
        self.started = time.perf_counter()
        self.gone = False
        self._status: int | None = None
        self._bytes, self._is_whole = 0, False
        scope[_FACTS] = {}

    @property
    def status(self) -> int:
        return _GONE if self._status is None or (self.gone and self._status >= 400) else self._status

    async def receive(self) -> Message:
        """The next part of the body, as long as it is not too long, and comes in time."""
        if self._is_whole:
            return await self._receive()  # waits for the client to leave
        try:
            message = await asyncio.wait_for(self._receive(), _PATIENCE)
        except (TimeoutError, asyncio.TimeoutError):
            raise ApiError(
                408, f"no further part of the body came for {_PATIENCE:.0f} s", headers={"Connection": "close"}
            ) from None
        if message["type"] == "http.disconnect":
            self.gone = True
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > self._max_body:
            raise _too_long(self._max_body)
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer; the first has the id in its headers."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            MutableHeaders(raw=message["headers"])["x-request-id"] = self.id
        await self._send(message)

    async def fail(self, error: ApiError) -> None:
        """Answer with an error, unless the answer has begun."""
        if self._status is None:
            await answer(error)(self.scope, self.receive, self.send)


def _too_long(most: int) -> ApiError:
    return ApiError(413, f"the body is longer than {most} bytes; send fewer texts in a request", code="body_too_long")
