"""API keys: where they come from, and whether a request has one."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from echo_embeddings.errors import InputError

__all__ = ["VARIABLE", "Keys", "read_keys"]

#: Keys for a server, with commas or spaces between them.
VARIABLE = "ECHO_EMBEDDINGS_API_KEYS"


def read_keys(path: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The keys of a file and of the environment, together; ``()`` if neither is given.

    A key is no option of a command: every user of the machine could read it there.

    Args:
        path: a file with a key a line; empty lines, and lines that begin with ``#``, are left out.
        environment: where :data:`VARIABLE` may stand.

    Raises:
        InputError: the file or the variable is there and holds no key; a server without keys must be meant.
        OSError: the file cannot be read.
    """
    keys: list[str] = []
    if path is not None:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        keys += (found := [line for line in lines if line and not line.startswith("#")])
        if not found:
            raise InputError(f"{path} holds no API key; write one a line, or leave the option out to serve everybody")
    if (value := environment.get(VARIABLE)) is not None:
        keys += (found := [key for key in re.split(r"[,\s]+", value) if key])
        if not found:
            raise InputError(f"{VARIABLE} is set and holds no key; write one, or unset it to serve everybody")
    return tuple(dict.fromkeys(keys))


class Keys:
    """Tells whether a request has a key. How long that takes says nothing about the keys.

    Args:
        keys: those that are good; with none, every request is.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def allow(self, authorization: bytes | None) -> bool:
        """Whether the header ``Authorization: Bearer KEY`` of a request has a good key."""
        if not self._digests:
            return True
        scheme, _, key = (authorization or b"").partition(b" ")
        given = _digest(key.strip())
        found = [hmac.compare_digest(given, one) for one in self._digests]  # all of them, whichever is found
        return scheme.lower() == b"bearer" and any(found)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
