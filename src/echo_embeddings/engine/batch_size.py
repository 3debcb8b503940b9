"""Choose how many tokens a batch holds: a default that suits most machines, or for a large job a measured number."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from echo_embeddings import user_cache

__all__ = ["best_budget", "default_budget", "machine", "overhead_of", "remembered"]

#: On a GPU: tokens of a batch times the square of the model's width. For a width of 2048 that is 16384 tokens.
_GPU_WORK = 2**36
#: Sizes are tried from the smallest up, until one takes this many times as long a token as the best so far.
_SLOWER = 1.1


def default_budget(device: torch.device, width: int = 2048) -> int:
    """The number of tokens for a batch, padding included, that suits most machines.

    On a CPU larger batches are slower, because they do not fit its cache. A GPU needs enough work in each layer to stay
    busy while the host starts the next one. The work for a token grows with the square of the model's width, so a
    narrow model needs more tokens (research/log.md).

    Args:
        device: where the model runs.
        width: dimensions of a hidden state.
    """
    if device.type != "cuda":
        return 4096 if device.type == "cpu" else 16384
    return min(max(_GPU_WORK // width**2, 8192), 2**17)


def overhead_of(device: torch.device, dtype: torch.dtype, budget: int) -> float:
    """The fixed cost of running one batch, counted in tokens: starting kernels, and matrices too small to be fast.

    On a CPU in float32, small matrix products are as fast as large ones (research/log.md, 2026-11-26), so the cost is
    low there, and more small batches with less padding are better.

    Args:
        device: where the model runs.
        dtype: of the weights.
        budget: tokens a batch.
    """
    return 64 if device.type == "cpu" and dtype == torch.float32 else budget / 12


def remembered(key: str, find: Callable[[], int]) -> int:
    """The budget stored under ``key`` in the user's cache; else ``find()``, which is then stored.

    A cache that cannot be read or written is no error.
    """
    path = user_cache.folder() / "budgets.json"
    known = _read(path)
    if key in known:
        return known[key]
    budget = find()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(_read(path) | {key: budget}, indent=1), encoding="utf-8")
        draft.replace(path)
    return budget


def best_budget(start: int, run: Callable[[int], object]) -> int:
    """Measure which batch size takes the least time a token: half of ``start``, ``start``, or 2, 4 or 8 times it.

    Sizes for which memory runs out are left out.

    Args:
        start: the expected best, in tokens.
        run: runs one batch of the given number of tokens and waits for its result.
    """
    best, fastest = start, float("inf")
    for budget in (start // 2, start, 2 * start, 4 * start, 8 * start):
        try:
            if fastest == float("inf"):
                run(budget)  # the first batch also starts threads and loads kernels
            seconds = min(_timed(run, budget) for _ in range(2)) / budget
        except torch.OutOfMemoryError:
            break
        if seconds < fastest:
            best, fastest = budget, seconds
        elif seconds > _SLOWER * fastest:
            break
    return best


def machine(device: torch.device) -> str:
    """A name for what the best budget depends on besides the model: the device, its threads, the version of torch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type} {platform.machine()} {platform.processor()} {torch.get_num_threads()} threads"
    return f"torch {torch.__version__}, {name}"


def _timed(run: Callable[[int], object], budget: int) -> float:
    started = time.perf_counter()
    run(budget)
    return time.perf_counter() - started


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, int) and value > 0}
