"""The commands ``echo-embeddings train`` and ``echo-embeddings mine``. The command line finds them by entry point.

Only this folder needs typer; the rest of the package does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from echo_embeddings.extras import from_checkout

__all__ = ["importing_training"]


@contextmanager
def importing_training(purpose: str) -> Iterator[None]:
    """Wrap the imports of a command, to say what to install if a package for training is missing.

    Args:
        purpose: what needs the package, as the start of a sentence, such as ``"mining"``.

    Raises:
        ImportError: a package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {error.name}: {from_checkout('./integrations/sentence-transformers[train]')}",
            name=error.name,
        ) from error
