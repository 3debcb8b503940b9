"""``ServerOptions``: the name, the keys and the limits of a server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from echo_embeddings.errors import ConfigError
from echo_embeddings.types import require_whole

__all__ = ["MOST_INPUTS", "ServerOptions", "checked"]

#: The most texts of a request, as at OpenAI.
MOST_INPUTS = 2048


@dataclass(frozen=True)
class ServerOptions:
    """How a server is called, who may use it, and how much it takes at once.

    Args:
        name: the name of the model for documents; for queries it is this with ``:query`` behind it. ``None`` takes the
            hub id, the name of the folder or file, or the built-in model's name.
        api_keys: a request must have one of these keys; ``()`` (the default) needs none.
        cors: web pages of these origins, such as ``"https://example.org"``, may use the server; ``("*",)`` for all.
            ``()`` (the default) lets only its own page do so.
        max_body: the most bytes of a request's body (default 8 MiB: 2,048 texts of 4,000 characters).
        max_queue: the most texts that may wait (default 8,192). Further requests are answered with 429 and the time
            after which to try again. A request that finds nothing waiting is always taken.
        page: whether there is a page at ``/`` to try the model. Its comparison with classical embeddings, and its
            picture of attention, load the model a second time, when somebody asks for them.

    Raises:
        ConfigError: a value cannot work; the message names it and what is valid.
    """

    name: str | None = None
    api_keys: Sequence[str] = field(default=(), repr=False)
    cors: Sequence[str] = ()
    max_body: int = 8 * 2**20
    max_queue: int = 8192
    page: bool = True

    def __post_init__(self) -> None:
        require_whole("max_body", self.max_body, ConfigError)
        require_whole("max_queue", self.max_queue, ConfigError)
        if self.name is not None and not (isinstance(self.name, str) and re.fullmatch(r"[^\s:?#]+", self.name)):
            raise ConfigError(f"name={self.name!r}: give a name without spaces and without any of : ? #")
        for name in ("api_keys", "cors"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigError(f"{name} must be a list of strings, not one string")
            listed = tuple(value) if isinstance(value, Iterable) else (value,)
            if not all(isinstance(one, str) for one in listed):
                raise ConfigError(f"{name} must be a list of strings, () for none")  # a key must not be printed
            object.__setattr__(self, name, listed)
        if not all(re.fullmatch(r"[!-~]+", key) for key in self.api_keys):
            raise ConfigError("an API key is empty, or has a space or another character in it that is not in ASCII")
        for origin in self.cors:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
                raise ConfigError(f"cors={origin!r} is no origin; give one such as 'https://example.org', or '*'")


def checked(options: object) -> ServerOptions:
    """The options given, or the defaults for ``None``.

    Raises:
        TypeError: they are something else; the message says what to pass instead.
    """
    if options is None:
        return ServerOptions()
    if not isinstance(options, ServerOptions):
        raise TypeError(f"options must be ServerOptions(...) or None, not a {type(options).__name__}")
    return options
