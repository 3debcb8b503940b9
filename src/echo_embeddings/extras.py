"""Say what to install when an optional package is missing. Imports nothing of ours."""

from __future__ import annotations

import importlib.util

__all__ = ["require"]


def require(module: str, extra: str, purpose: str) -> None:
    """Raise an error that names the extra to install, if ``module`` is missing. Call it before any work is done.

    Args:
        module: the package as Python imports it.
        extra: the extra of echo-embeddings that installs it.
        purpose: what needs it, as the start of a sentence: ``"reading parquet"``.

    Raises:
        ImportError: ``module`` is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{purpose} needs {module}: pip install 'echo-embeddings[{extra}]'", name=module)
