"""Copy data to a device and back. Tests that need a GPU are in ``tests/gpu``."""

import numpy as np
import torch

from echo_embeddings.engine.runtime import _behind
from echo_embeddings.forward.transfer import Arriving, sent


def test_an_array_arrives_as_it_was():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    there = sent(array, "cpu")
    assert there.dtype == torch.int64
    np.testing.assert_array_equal(Arriving(there).numpy(), array)


def test_results_are_asked_for_when_later_batches_have_been_started():
    events = []

    def batches():
        for i in range(4):
            events.append(f"start {i}")
            yield [i], torch.tensor([float(i)])

    for group, rows in _behind(batches(), 2):
        events.append(f"end {group[0]}")
        assert rows.numpy().tolist() == [float(group[0])]
    assert events == ["start 0", "start 1", "start 2", "end 0", "start 3", "end 1", "end 2", "end 3"]


def test_nothing_is_behind_where_there_is_nothing_to_wait_for():
    groups = [group for group, _ in _behind(iter([([0], torch.zeros(1)), ([1], torch.zeros(1))]), 0)]
    assert groups == [[0], [1]]
    assert list(_behind(iter([]), 2)) == []
