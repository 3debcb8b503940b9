"""Show how far a call is: a progress bar on the terminal, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress"]

#: ``True`` for a progress bar, ``False`` for none, or a function that is called after each batch with the number of
#: texts in it.
Progress = bool | Callable[[int], object]


@contextmanager
def progress(total: int, show: Progress) -> Iterator[Callable[[int], object]]:
    """Turn what the user asked for into a function that is called with the number of texts just done.

    Args:
        total: number of texts of the whole call.
        show: what the user asked for.
    """
    if callable(show):
        yield show
    elif not show:
        yield lambda _: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="text", desc="embedding") as bar:
            yield bar.update
