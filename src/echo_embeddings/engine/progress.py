"""Show the progress of a call: with a progress bar in the terminal, or with a function that the user gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from echo_embeddings import notices

__all__ = ["Progress", "progress"]

#: ``True`` for a progress bar, ``False`` for none, or a function that is called after each batch with the number of
#: texts in it.
Progress = bool | Callable[[int], object]


@contextmanager
def progress(total: int | None, show: Progress) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of texts just done, for as long as the ``with`` block runs.

    Args:
        total: number of texts of the whole call; ``None`` if nobody knows it.
        show: ``True`` for a progress bar (``ECHO_EMBEDDINGS_PROGRESS=0`` hides it), ``False`` for none, or the user's
            own function.
    """
    if callable(show):
        yield show
    elif not show or not notices.allows_bars():
        yield lambda _: None
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="text", desc="embedding") as bar:
            yield bar.update
