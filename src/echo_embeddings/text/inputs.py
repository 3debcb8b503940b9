"""What a call is given: checked lists of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from echo_embeddings.errors import ConfigError

__all__ = ["WINDOW", "checked", "windows"]

# Texts tokenised and sorted together: enough to fill batches of one length, few enough to hold in memory.
WINDOW = 4096


def checked(texts: Iterable[str], first: int = 0) -> list[str]:
    """Texts as a list, each of them a string.

    Args:
        texts: any iterable.
        first: the position to count from in messages.

    Raises:
        TypeError: it is no iterable of strings; names the first position that is wrong.
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


def windows(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Texts in checked lists of ``size``, taken from the iterable one list at a time.

    Raises:
        TypeError: it is one string; at once. A list of it holds something else; when that is reached.
        ConfigError: ``size`` is below 1.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of strings, not one string")
    if size < 1:
        raise ConfigError(f"chunk={size!r}: give at least 1 text")
    return _windows(iter(texts), size)


def _windows(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    start = 0
    while window := list(islice(texts, size)):
        yield checked(window, start)
        start += len(window)
