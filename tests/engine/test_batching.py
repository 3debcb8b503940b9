from itertools import combinations

import pytest
import torch

from echo_embeddings.engine import batching


def test_a_plan_holds_each_text_once_within_the_budget():
    lengths = [5, 1, 9, 9, 2, 30, 5]
    groups = batching.plan(lengths, budget=18, overhead=1.5)
    assert sorted(i for group in groups for i in group) == list(range(7))
    assert groups == [[5], [2, 3], [0, 6], [4, 1]]


def test_padding_ends_where_it_would_cost_more_than_another_pass():
    # Five texts would be padded by 28 each, or by 12.
    assert batching.plan([40] * 5 + [12] * 5, budget=1200, overhead=100) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert batching.plan([40] * 5 + [28] * 5, budget=1200, overhead=100) == [list(range(10))]


def test_no_cut_is_cheaper_than_the_plans():
    lengths, budget, overhead = [31, 29, 28, 17, 16, 9, 8, 8, 3], 64, 16 / 3

    def cost(cuts):
        parts = [lengths[a:b] for a, b in zip([0, *cuts], [*cuts, len(lengths)], strict=True)]
        padded = [part[0] * len(part) for part in parts]
        return sum(padded) + len(parts) * overhead if max(padded) <= budget else float("inf")

    every = [cuts for n in range(len(lengths)) for cuts in combinations(range(1, len(lengths)), n)]
    found = [group[0] for group in batching.plan(lengths, budget, overhead)][1:]
    assert cost(found) == min(map(cost, every))


def test_no_texts_no_groups():
    assert batching.plan([], budget=10, overhead=1) == []


def test_out_of_memory_halves_and_nothing_is_lost():
    tried = []

    def compute(group):
        tried.append(len(group))
        if len(group) > 3:
            raise torch.OutOfMemoryError("no room")
        return torch.tensor(group)

    done = {}
    for group, rows in batching.run([list(range(8)), list(range(8, 16))], compute):
        done.update(zip(group, rows.tolist(), strict=True))
    assert done == {i: i for i in range(16)}
    # 8 and 4 fail once; afterwards no batch is tried that is larger than one that worked.
    assert tried == [8, 4, *[2] * 8]


def test_one_text_that_does_not_fit_is_an_error():
    def compute(group):
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        list(batching.run([[0, 1]], compute))
