"""Check the texts that a user gives, as a list or in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from echo_embeddings.errors import ConfigError

__all__ = ["CHUNK", "checked", "chunks"]

#: How many texts are tokenised and sorted by length together: enough to fill batches of texts of one length, few enough
#: to hold in memory.
CHUNK = 4096


def checked(texts: Iterable[str], first: int = 0) -> list[str]:
    """Make a list of texts, and check that each one is a string.

    Args:
        texts: any iterable of strings.
        first: the position of the first text, for error messages.

    Raises:
        TypeError: ``texts`` is no iterable of strings; the message names the first position that is wrong.
    """
    if isinstance(texts, bytes | dict) or not hasattr(texts, "__iter__"):
        raise TypeError(f"texts must be a string or a list of strings, not {type(texts).__name__}")
    listed = list(texts)
    for position, text in enumerate(listed, start=first):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{position}] is {type(text).__name__} ({text!r:.40}), not a string; drop it or turn it into one"
            )
    return listed


def chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Take texts from an iterable in checked lists of ``size`` (the last may be shorter), one list at a time.

    Raises:
        TypeError: ``texts`` is one string (said at once), or a list holds something else (said when it is reached).
        ConfigError: ``size`` is below 1.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of strings, not one string")
    if size < 1:
        raise ConfigError(f"chunk={size!r}: give at least 1 text")
    return _chunks(iter(texts), size)


def _chunks(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    start = 0
    while chunk := list(islice(texts, size)):
        yield checked(chunk, start)
        start += len(chunk)
