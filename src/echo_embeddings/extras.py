"""Optional packages: what to install when one is missing. Imports nothing of ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["importing_training", "require"]


def require(module: str, extra: str, purpose: str) -> None:
    """Say which extra to install if ``module`` is missing, before any work is done.

    Args:
        module: the package as Python imports it.
        extra: the extra of echo-embeddings that brings it.
        purpose: what needs it, as the start of a sentence: ``"reading parquet"``.

    Raises:
        ImportError: ``module`` is not installed.
    """
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
