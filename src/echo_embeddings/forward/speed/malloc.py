"""Let the C library keep memory that torch frees. On Linux with glibc only; elsewhere nothing changes."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["keep_freed"]

# mallopt's parameters (malloc.h).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 2**20


@cache
def keep_freed() -> bool:
    """Let the process keep up to 1 GiB of freed memory for the next batch, instead of giving it back at each layer.

    Giving it back and taking it again is a sixth of the time of a pass over a batch (research/log.md), because the
    kernel clears every page. The setting holds for the whole process. So nothing is done if the user has set one of
    glibc's own variables (``MALLOC_...``, or ``GLIBC_TUNABLES`` with ``glibc.malloc``) or ``ECHO_EMBEDDINGS_MALLOC=0``.

    Returns:
        Whether the process now keeps freed memory.
    """
    set_by_user = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if not sys.platform.startswith("linux") or set_by_user or os.environ.get("ECHO_EMBEDDINGS_MALLOC") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    options = ((_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 1024 * _MIB), (_TOP_PAD, 64 * _MIB))
    return all(mallopt(option, size) == 1 for option, size in options)
