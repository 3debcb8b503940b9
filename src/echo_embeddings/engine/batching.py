"""Which texts run together, and what happens when memory runs out. Batching knows lengths, not texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["fill", "plan", "run"]

Group = list[int]


def plan(lengths: Sequence[int], budget: int, overhead: float) -> list[Group]:
    """Cut texts into batches of at most ``budget`` padded tokens so that padding and passes together cost least.

    Longest first shows at once whether memory is enough, and makes a progress bar pessimistic instead of optimistic.

    Args:
        lengths: tokens of each sequence.
        budget: tokens a batch, padding included; a longer sequence is a batch of its own.
        overhead: what a pass costs beside its tokens, in tokens.

    Returns:
        Lists of indices into ``lengths``; each index occurs once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    ends = _cuts(np.asarray(lengths, dtype=np.int64)[order], budget, overhead)
    return [order[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]


def fill(lengths: Sequence[int], budget: int) -> list[Group]:
    """Cut texts into batches of at most ``budget`` tokens, for sequences that stand in one row: nothing is padded.

    Longest first, as in ``plan``, whose result this is.
    """
    groups: list[Group] = []
    room = 0
    for i in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        if lengths[i] > room or not groups:
            groups.append([])
            room = budget
        groups[-1].append(i)
        room -= lengths[i]
    return groups


def _cuts(falling: NDArray[np.int64], budget: int, overhead: float) -> list[int]:
    """Where the batches of texts of falling length end, so that all padded tokens and overheads are fewest."""
    texts = len(falling)
    # cheapest[i]: what the first i texts cost; last[i]: where the batch that ends there begins.
    cheapest, last = np.zeros(texts + 1), np.zeros(texts + 1, dtype=np.int64)
    low = 0
    for end in range(1, texts + 1):
        while low < end - 1 and falling[low] * (end - low) > budget:
            low += 1
        starts = np.arange(low, end)
        costs = cheapest[low:end] + falling[low:end] * (end - starts) + overhead
        best = int(costs.argmin())
        cheapest[end], last[end] = costs[best], low + best
    ends: list[int] = []
    while texts:
        ends.append(texts)
        texts = int(last[texts])
    return ends[::-1]


def run(groups: Sequence[Group], compute: Callable[[Group], torch.Tensor]) -> Iterator[tuple[Group, torch.Tensor]]:
    """Compute each group; one that does not fit the device's memory is halved until it does.

    Yields:
        ``(group, rows)``, not necessarily in the groups' order, each index once.

    Raises:
        torch.OutOfMemoryError: a single text does not fit.
    """
    waiting = list(reversed(groups))
    largest = max(map(len, groups), default=0)
    while waiting:
        group = waiting.pop()
        if len(group) > largest:
            waiting += [group[largest:], group[:largest]]
            continue
        try:
            rows = compute(group)
        except torch.OutOfMemoryError:
            if len(group) == 1:
                raise
            largest = len(group) // 2
            waiting.append(group)
        else:
            yield group, rows
            continue
        # Outside the handler: inside it, the traceback still holds the tensors that did not fit.
        torch.cuda.empty_cache()
