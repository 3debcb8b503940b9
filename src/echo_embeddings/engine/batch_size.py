"""How many tokens a batch should hold: what suits most machines, or for a large job what was tried on this one."""

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

#: Tokens of a batch on a GPU, times the square of a model's width.
_GPU_WORK = 2**36
#: Tried from the smallest; a batch twice as large as one that was slower by this is not tried any more.
_SLOWER = 1.1


def default_budget(device: torch.device, width: int = 2048) -> int:
    """Padded tokens a batch, for states of so many dimensions.

    On a processor larger ones are slower: they leave its cache. A GPU wants enough to do while the host starts the next
    layer, which takes time by the square of the model's width: the narrower, the more tokens (research/log.md).
    """
    if device.type != "cuda":
        return 4096 if device.type == "cpu" else 16384
    return min(max(_GPU_WORK // width**2, 8192), 2**17)


def overhead_of(device: torch.device, dtype: torch.dtype, budget: int) -> float:
    """What a pass costs beside its tokens, in tokens: kernels to start, and products too small for them.

    In float32 a processor's products are as fast in small batches (research/log.md, 2026-11-26): padding is worth less.
    """
    return 64 if device.type == "cpu" and dtype == torch.float32 else budget / 12


def remembered(key: str, find: Callable[[], int]) -> int:
    """The budget kept under ``key``, or the one found now, which is kept; a cache that cannot be used is no error."""
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
    """The number of tokens whose batches cost least a token, of ``start`` over 2, ``start``, and 2 to 8 times that.

    Args:
        start: where a budget is expected.
        run: runs one batch of so many tokens and waits for it.
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
    """What a budget depends on beside the model: the device, its threads, the version of torch."""
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
