"""Files and arguments that a command cannot work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from echo_embeddings.errors import EchoError

__all__ = ["InputError", "importing_training", "require"]


class InputError(EchoError, ValueError):
    """A file, a row or an option cannot be used; the message says which, why, and what to do."""


def require(module: str, extra: str, purpose: str) -> None:
    """Say which extra to install if ``module`` is missing, before any work is done.

    Raises:
        ImportError: ``module`` is not installed.
    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{purpose} needs {module}: pip install 'echo-embeddings[{extra}]'", name=module)


@contextmanager
def importing_training(purpose: str) -> Iterator[None]:
    """Around imports of what trains: say what to install if a package is missing.

    Raises:
        ImportError: one is.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {error.name}: pip install 'sentence-transformers-echo[train]'", name=error.name
        ) from error
