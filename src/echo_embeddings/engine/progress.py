"""A progress bar, or a function that is told how far a call is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress"]

#: ``True`` for a progress bar, or a function that is called after each batch with the number of texts in it.
Progress = bool | Callable[[int], object]


@contextmanager
def progress(total: int, show: Progress) -> Iterator[Callable[[int], object]]:
    """What ``show`` asks for, as a function to call with the number of texts that were embedded since the last call.

    Args:
        total: how many texts there are.
        show: ``True``, ``False`` or a function.
    """
    if callable(show):
        yield show
    elif not show:
        yield lambda _: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="text", desc="embedding") as bar:
            yield bar.update
