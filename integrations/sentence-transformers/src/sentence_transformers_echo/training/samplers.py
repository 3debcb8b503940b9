"""Which rows make a batch. Where rows do not meet each other in the loss, those of one length do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler

__all__ = ["LengthBatchSampler", "pick"]

CountTokens = Callable[[list[str]], list[int]]


def pick(dataset: Dataset, count_tokens: CountTokens, batch_size: int, **options: Any) -> DefaultBatchSampler:
    """The sampler for a dataset: pairs never meet a text twice in a batch, where it would be its own wrong negative."""
    if "positive" in dataset.column_names:
        return NoDuplicatesBatchSampler(dataset, batch_size, **options)
    return LengthBatchSampler(dataset, count_tokens, batch_size, **options)


class LengthBatchSampler(DefaultBatchSampler):
    """Batches of texts of one length, in random order: no padding, and on a processor twice the speed (docs/log.md).

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
