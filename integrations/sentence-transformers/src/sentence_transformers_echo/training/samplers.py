"""Choose which rows make a batch.

If the loss looks at each row alone, a batch has rows of the same length; if it ranks them, each row comes with its
neighbours.
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
#: The name of a column of texts that are ranked among their neighbours.
RANKED = "ranked"
#: Texts of a group, the nearest texts that its others are drawn from, and how many rows one matrix product is made for.
_TOGETHER = 8
_DRAWN_FROM = 14
_AT_ONCE = 256


def pick(dataset: Dataset, count_tokens: CountTokens, batch_size: int, **options: Any) -> DefaultBatchSampler:
    """Choose the sampler for a dataset, by its columns.

    A batch of pairs never holds a text twice, because the second one would be a wrong negative for the first.

    Args:
        dataset: columns ``anchor`` and ``positive`` for pairs, ``RANKED`` for texts that are ranked, else ``text``.
        count_tokens: counts the tokens of texts.
        batch_size: rows in a batch.
        options: as for ``DefaultBatchSampler``.
    """
    if "positive" in dataset.column_names:
        return NoDuplicatesBatchSampler(dataset, batch_size, **options)
    if RANKED in dataset.column_names:
        return NeighbourBatchSampler(dataset, batch_size, **options)
    return LengthBatchSampler(dataset, count_tokens, batch_size, **options)


class LengthBatchSampler(DefaultBatchSampler):
    """Batches of texts of the same length, in random order. Without padding a CPU is twice as fast (research/log.md).

    Texts are sorted by length, and texts of the same length are shuffled in each epoch; then every ``batch_size`` texts
    make a batch. So a batch has several lengths only where the texts of one length end.

    Args:
        dataset: has a column ``text``.
        count_tokens: counts the tokens of texts.
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
    """Batches made of groups of similar texts, which are hard to tell apart. Each text comes once in an epoch.

    A group is a text drawn at random and 7 others. These are drawn from its 14 nearest texts by the teacher's vectors,
    without those that are in a group already (after topic-aware sampling, arXiv 2104.06967). Typical neighbours are a
    question and its passage, a title and its abstract, or two abstracts of one field. The last groups are smaller.

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
            # One matrix product for many rows: one product for each would read all vectors from memory every time.
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
