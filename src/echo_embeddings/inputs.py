"""What a call is given and shows, before and beside the vectors: checked texts, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "checked", "progress"]

#: ``True`` for a progress bar, or a function that is told after each batch how many texts it held.
Progress = bool | Callable[[int], object]


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


@contextmanager
def progress(total: int, show: Progress) -> Iterator[Callable[[int], object]]:
    """What ``show`` asks for, as a function that is told how many texts are done."""
    if callable(show):
        yield show
    elif not show:
        yield lambda _: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="text", desc="embedding") as bar:
            yield bar.update
