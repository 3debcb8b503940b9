"""The folder for files that this package can make again: converted model, compiled layers, probed budgets."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["VARIABLE", "folder"]

VARIABLE = "ECHO_EMBEDDINGS_CACHE"


def folder() -> Path:
    """The user's cache folder for this package. It may not exist yet.

    It is ``ECHO_EMBEDDINGS_CACHE``, or the folder ``echo-embeddings`` where the system keeps caches. Where neither is
    known (a user without a home folder), it is one below ``/nonexistent``, in which nothing can be written.
    """
    from platformdirs import user_cache_path

    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    usual = user_cache_path("echo-embeddings")
    # Without a home folder it is "~/.cache": a folder of that name in the working folder is nobody's cache.
    return usual if usual.is_absolute() else Path("/nonexistent/echo-embeddings")
