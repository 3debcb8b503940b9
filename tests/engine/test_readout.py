"""What is read off a batch, by hand, on states made up in the test: padded and packed."""

import numpy as np
import pytest
import torch

from echo_embeddings.engine.readout import part_states
from echo_embeddings.forward.batch import Batch
from echo_embeddings.text.layout import Content, Layout
from echo_embeddings.text.stretches import Part, Stretch

LAYOUT = Layout(((7, 8), (9,), (5, 5, 5)))
COUNTS = (4, 9, 1)
PARTS = (((0, 0, 4), (1, 1, 3)), ((2, 0, 9), (0, 8, 9), (3, 2, 7)), ((4, 0, 1),))


def stretches():
    made = []
    for text, (count, parts) in enumerate(zip(COUNTS, PARTS, strict=True)):
        made.append(Stretch(text, 0, Content(np.arange(count) + 10), tuple(Part(*part) for part in parts)))
    return made


@pytest.mark.parametrize("without_prefix", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "last", "mean_and_last", "weighted_mean"])
@pytest.mark.parametrize("make", [Batch.of, Batch.packed])
def test_parts_are_pooled_from_the_last_copy(make, pooling, without_prefix):
    layout = LAYOUT.without_prefix() if without_prefix else LAYOUT
    batch = make([one.content.ids for one in stretches()], layout, "cpu")
    hidden = torch.from_numpy(np.random.default_rng(1).normal(size=(*batch.ids.shape, 6)).astype(np.float32))
    found = part_states(pooling, stretches(), LAYOUT)(hidden, batch)
    wanted, start = [], 0
    for row, (count, parts) in enumerate(zip(COUNTS, PARTS, strict=True)):
        begin = start if batch.lengths else 0
        copy = hidden[0 if batch.lengths else row][begin + layout.copy(-1, count).start :][:count]
        for _, first, stop in parts:
            states = copy[first:stop]
            weights = {"mean": torch.ones(len(states)), "weighted_mean": torch.arange(len(states)) + 1.0}
            last = torch.zeros(len(states)).index_fill(0, torch.tensor([len(states) - 1]), 1.0)
            weights |= {"last": last, "mean_and_last": weights["mean"] / len(states) + last}
            weight = weights[pooling]
            wanted.append((states * weight[:, None]).sum(0) / weight.sum())
        start += layout.total(count)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-6)
