"""What is said of a request that cannot be answered, in the shape in which OpenAI says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

__all__ = ["ApiError", "answer", "of_http", "of_validation", "unforeseen"]

_SENT_AS = "send the body as JSON, with the header Content-Type: application/json"


class ApiError(HTTPException):
    """An answer of OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``.

    Args:
        status: of HTTP.
        message: names the value, what is valid, and what to do.
        param: the field at fault; ``None`` if it is none.
        code: for programs, such as ``"model_not_found"``; ``None`` where OpenAI has none.
        kind: OpenAI's ``type``.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.content = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def answer(error: ApiError) -> Response:
    """The answer that an error is. ASCII, because a message may quote half a character."""
    return Response(json.dumps(error.content), error.status_code, error.headers, "application/json")


def unforeseen(request_id: str) -> ApiError:
    """For a fault of the server's. What happened stands in the log, under the id of the request."""
    message = f"the server could not answer because of an error of its own; its log says more under {request_id}"
    return ApiError(500, message, kind="server_error", code="internal_error")


async def of_http(_: Request, error: Exception) -> Response:
    """Answer what FastAPI and Starlette raise, such as for a path that is not there."""
    if isinstance(error, ApiError):
        return answer(error)
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - registered for nothing else
    message = {
        404: "there is nothing under this path; use POST /v1/embeddings, GET /v1/models, GET /health or GET /metrics",
        405: f"this path does not take this method; it takes {(error.headers or {}).get('Allow', 'another one')}",
        400: f"the body cannot be read; {_SENT_AS}",
    }.get(error.status_code, str(error.detail))
    return answer(ApiError(error.status_code, message, headers=error.headers))


async def of_validation(_: Request, error: Exception) -> Response:
    """Answer a body that has not the fields it should have; the first fault is named."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    return answer(_of_field(error.errors()[0]))


def _of_field(fault: Mapping[str, Any]) -> ApiError:
    kind, said = fault["type"], fault.get("ctx") or {}
    if kind == "json_invalid":
        return ApiError(400, f"the body is no JSON: {said.get('error')} at character {fault['loc'][-1]}; {_SENT_AS}")
    names = [str(part) for part in fault["loc"][1:]]
    if not names:
        return ApiError(400, f"the body is no JSON object with the fields of this request; {_SENT_AS}")
    name = ".".join(names)
    message = {
        "missing": f"{name} is missing; give it",
        "extra_forbidden": f"{name!r} is no field of this request; leave it out (/openapi.json has those there are)",
        "literal_error": f"{name}={fault.get('input')!r:.80} is unknown; choose {said.get('expected')}",
    }.get(kind, f"{name}={fault.get('input')!r:.80}: {fault['msg']}")
    return ApiError(400, message, param=names[0])
