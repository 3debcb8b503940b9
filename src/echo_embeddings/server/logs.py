"""Logs as lines of JSON. No text that is embedded, and no message that might quote one, ever stands in them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from typing import Any, TextIO

__all__ = ["log", "to_stream", "where"]

_LOGGER = logging.getLogger("echo_embeddings.server")
# What Python warns of, and what uvicorn says of the life of the process; of requests it says nothing, because we do.
_OTHERS = ("py.warnings", "uvicorn")


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Write a line.

    Args:
        event: what it is about, such as ``"request"``.
        level: of ``logging``.
        facts: numbers, names and ids.
    """
    _LOGGER.log(level, event, extra={"facts": facts})


def where(error: BaseException) -> dict[str, Any]:
    """What can be said of an error without its message: its class, and the lines it came through, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


def to_stream(stream: TextIO | None = None) -> None:
    """Send to a stream what the server logs, what Python warns of, and what goes wrong in uvicorn.

    Args:
        stream: ``None`` for stderr.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_Lines())
    _LOGGER.setLevel(logging.INFO)
    for logger in (_LOGGER, *map(logging.getLogger, _OTHERS)):
        logger.handlers[:] = [handler]
        logger.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= where(record.exc_info[1])
        return json.dumps(line, default=str)
