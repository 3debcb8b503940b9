"""The folder for files that this package can make again: converted model, compiled layers, probed budgets."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder"]


def folder() -> Path:
    """The user's cache folder for this package. It may not exist yet."""
    from platformdirs import user_cache_path

    return user_cache_path("echo-embeddings")
