"""Files and arguments that a command cannot work with."""

from __future__ import annotations

from echo_embeddings.errors import EchoError

__all__ = ["InputError", "require"]


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
