"""Plan which texts run together in a batch, and halve a batch when memory runs out. Knows lengths, not texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["fill", "plan", "run"]

Group = list[int]


def plan(lengths: Sequence[int], budget: int, overhead: float) -> list[Group]:
    """Group texts of similar length into batches, so that padding and the fixed cost of each batch are least together.

    The longest texts come first: so it shows at once if memory is too small, and a progress bar shows the slowest
    batches first, so its estimate of the time left is rather too long than too short.

    Args:
        lengths: tokens of each sequence.
        budget: the most tokens of a batch, padding included; a longer sequence is a batch of its own.
        overhead: the fixed cost of running a batch, counted in tokens.

    Returns:
        Lists of indices into ``lengths``; each index occurs once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    ends = _cheapest_ends(np.asarray(lengths, dtype=np.int64)[order], budget, overhead)
    return [order[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]


def fill(lengths: Sequence[int], budget: int) -> list[Group]:
    """Group texts into batches whose sequences stand one behind the other in a single row, so nothing is padded.

    The longest texts come first, as in ``plan``.

    Args:
        lengths: tokens of each sequence.
        budget: the most tokens of a batch; a longer sequence is a batch of its own.

    Returns:
        Lists of indices into ``lengths``; each index occurs once.
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


def _cheapest_ends(falling: NDArray[np.int64], budget: int, overhead: float) -> list[int]:
    """Where each batch ends, for texts sorted from long to short, so that padded tokens plus overheads are fewest.

    For example ``[2, 5]``: the first batch holds texts 0 and 1, the second texts 2 to 4.
    """
    texts = len(falling)
    # cheapest[i]: the least cost of the first i texts; last[i]: where their last batch begins.
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
    """Compute each group; halve a group that does not fit the device's memory until it does.

    Args:
        groups: lists of indices, one list for each batch.
        compute: turns one group into a tensor with a row for each of its indices.

    Yields:
        ``(group, rows)``; a halved group comes in parts, and each index occurs once.

    Raises:
        torch.OutOfMemoryError: a group of one text does not fit.
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
        # Outside the except block: inside it, the traceback still holds the tensors that did not fit.
        torch.cuda.empty_cache()
