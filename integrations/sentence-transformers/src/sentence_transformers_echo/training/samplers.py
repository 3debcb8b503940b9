"""Which rows make a batch. Where rows do not meet each other in the loss, those of one length do.

Where they shall be told apart, each comes with its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler

__all__ = ["RANKED", "LengthBatchSampler", "NeighbourBatchSampler", "pick"]

CountTokens = Callable[[list[str]], list[int]]
#: The column of texts that are ranked among their neighbours.
RANKED = "ranked"
_TOGETHER = 8
_DRAWN_FROM = 14
_AT_ONCE = 256


def pick(dataset: Dataset, count_tokens: CountTokens, batch_size: int, **options: Any) -> DefaultBatchSampler:
    """The sampler for a dataset: pairs never meet a text twice in a batch, where it would be its own wrong negative."""
    if "positive" in dataset.column_names:
        return NoDuplicatesBatchSampler(dataset, batch_size, **options)
    if RANKED in dataset.column_names:
        return NeighbourBatchSampler(dataset, batch_size, **options)
    return LengthBatchSampler(dataset, count_tokens, batch_size, **options)


class LengthBatchSampler(DefaultBatchSampler):
    """Batches of texts of one length, in random order: no padding, on a processor twice the speed (research/log.md).

    Texts are ordered by length, those of one length anew at random in each epoch, and cut into batches; so a batch
    holds two lengths only where one ends.

    Args:
        dataset: has a column ``text``.
        count_tokens: what is the same in a batch.
        batch_size: texts in a batch.
        options: as for ``DefaultBatchSampler``.
    """

    def __init__(self, dataset: Dataset, count_tokens: CountTokens, batch_size: int, **options: Any) -> None:
        super().__init__(dataset, batch_size, **options)
        texts = dataset["text"][:]
        chunks = (texts[i : i + 1000] for i in range(0, len(texts), 1000))
        self._lengths = [length for chunk in chunks for length in count_tokens(chunk)]

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of row numbers."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        ordered = sorted(shuffled, key=self._lengths.__getitem__)
        batches = [ordered[i : i + self.batch_size] for i in range(0, len(ordered), self.batch_size)]
        if self.drop_last and len(batches[-1]) < self.batch_size:
            batches.pop()
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[place]


class NeighbourBatchSampler(DefaultBatchSampler):
    """Batches of groups of texts that are alike, so that there is something to tell apart: each text once an epoch.

    A group is a text drawn at random and 7 others, drawn from the 14 that the teacher finds nearest and that are in no
    group yet (after topic-aware sampling, arXiv 2104.06967). Its neighbours are a question and its passage, a
    title and its abstract, or two abstracts of one field. What is left at the end makes smaller groups.

    Args:
        dataset: has a column ``label``: the teacher's unit vectors.
        batch_size: texts in a batch.
        options: as for ``DefaultBatchSampler``.
    """

    def __init__(self, dataset: Dataset, batch_size: int, **options: Any) -> None:
        super().__init__(dataset, batch_size, **options)
        self._vectors = np.asarray(dataset["label"][:], np.float32)

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of row numbers."""
        rng = np.random.default_rng([self.seed, self.epoch])
        groups = self._groups(rng)
        order = [row for i in rng.permutation(len(groups)) for row in groups[i]]
        stop = len(order) - len(order) % self.batch_size if self.drop_last else len(order)
        yield from (order[i : i + self.batch_size] for i in range(0, stop, self.batch_size))

    def _groups(self, rng: np.random.Generator) -> list[list[int]]:
        free = np.ones(len(self._vectors), dtype=bool)
        groups = []
        waiting = rng.permutation(len(free))
        while len(waiting := waiting[free[waiting]]):
            rows, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            # One product for many: alone, each would read all vectors from memory.
            for row, cosines in zip(rows.tolist(), self._vectors[rows] @ self._vectors.T, strict=True):
                if not free[row]:
                    continue
                free[row] = False
                likeness = np.where(free, cosines, -np.inf)
                nearest = np.argpartition(-likeness, min(_DRAWN_FROM, len(free) - 1))[:_DRAWN_FROM]
                others = rng.permutation(nearest[free[nearest]])[: _TOGETHER - 1].tolist()
                free[others] = False
                groups.append([row, *others])
        return groups
