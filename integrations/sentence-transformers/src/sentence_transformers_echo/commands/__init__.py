"""The commands ``echo-embeddings train`` and ``echo-embeddings mine``, which the command line finds by entry point.

Only this folder needs typer; training is a library without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["importing_training"]


@contextmanager
def importing_training(purpose: str) -> Iterator[None]:
    """Say what to install if a package is missing that training needs; for the imports of a command.

    Args:
        purpose: what needs it, as the start of a sentence: ``"mining"``.

    Raises:
        ImportError: a package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {error.name}: from a checkout: pip install './integrations/sentence-transformers[train]'",
            name=error.name,
        ) from error
