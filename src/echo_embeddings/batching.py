"""Which texts run together, and what happens when memory runs out. Batching knows lengths, not texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

__all__ = ["default_budget", "plan", "run"]

Group = list[int]


def default_budget(device: torch.device) -> int:
    """Padded tokens a batch. On a processor larger ones are slower: they leave its cache (docs/log.md)."""
    return 2048 if device.type == "cpu" else 16384


def plan(lengths: Sequence[int], budget: int) -> list[Group]:
    """Cut texts into batches of at most ``budget`` padded tokens, longest first.

    Longest first shows at once whether memory is enough, and makes a progress bar pessimistic instead of optimistic.

    Args:
        lengths: tokens of each sequence.
        budget: tokens a batch, padding included; a longer sequence is a batch of its own.

    Returns:
        Lists of indices into ``lengths``; each index occurs once.
    """
    groups: list[Group] = []
    longest = 0
    for index in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if groups and longest * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = lengths[index]
    return groups


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
