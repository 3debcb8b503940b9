"""Pooling gives exact values: the hidden state at position t is t, so every mean is known on paper."""

import pytest
import torch

from echo_embeddings.forward.pooling import (
    POOLINGS,
    last_pooling,
    mean_and_last_pooling,
    mean_pooling,
    weighted_mean_pooling,
)


def states(batch: int, tokens: int, dtype=torch.float32) -> torch.Tensor:
    return torch.arange(tokens, dtype=dtype).view(1, tokens, 1).expand(batch, tokens, 3).clone()


# Masks of one text: padded on the right, padded on the left, and with a hole.
RIGHT = torch.tensor([[0, 0, 1, 1, 1, 0, 0]], dtype=torch.bool)
LEFT = torch.tensor([[0, 0, 0, 0, 1, 1, 1]], dtype=torch.bool)
HOLE = torch.tensor([[0, 1, 0, 0, 1, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize(
    ("pooling", "mask", "expected"),
    [
        (mean_pooling, RIGHT, 3.0),  # (2 + 3 + 4) / 3
        (mean_pooling, LEFT, 5.0),  # (4 + 5 + 6) / 3
        (mean_pooling, HOLE, 2.5),  # (1 + 4) / 2
        (last_pooling, RIGHT, 4.0),
        (last_pooling, LEFT, 6.0),
        (last_pooling, HOLE, 4.0),
        (mean_and_last_pooling, RIGHT, 3.5),  # (3 + 4) / 2
        (mean_and_last_pooling, LEFT, 5.5),  # (5 + 6) / 2
        (mean_and_last_pooling, HOLE, 3.25),  # (2.5 + 4) / 2
        (weighted_mean_pooling, RIGHT, 20 / 6),  # (1*2 + 2*3 + 3*4) / 6
        (weighted_mean_pooling, LEFT, 32 / 6),  # (1*4 + 2*5 + 3*6) / 6
        (weighted_mean_pooling, HOLE, 3.0),  # (1*1 + 2*4) / 3
    ],
)
def test_known_values(pooling, mask, expected):
    pooled = pooling(states(1, 7), mask)
    assert pooled.dtype == torch.float32
    assert pooled[0].tolist() == pytest.approx([expected] * 3)


@pytest.mark.parametrize("pooling", POOLINGS.values())
def test_what_is_not_pooled_does_not_matter_even_if_it_is_nan(pooling):
    hidden = states(1, 7)
    broken = torch.where(RIGHT.unsqueeze(-1), hidden, float("nan"))
    assert torch.equal(pooling(broken, RIGHT), pooling(hidden, RIGHT))


@pytest.mark.parametrize("pooling", POOLINGS.values())
def test_what_is_pooled_and_nan_stays_nan(pooling):
    hidden = states(1, 7)
    hidden[0, 4] = float("nan")
    assert pooling(hidden, RIGHT).isnan().all()


def test_sums_are_float32_whatever_the_states():
    # bfloat16 has no number 4096 + 1: in a bfloat16 sum, the ones would be lost.
    hidden = torch.ones(1, 257, 1, dtype=torch.bfloat16)
    hidden[0, 0] = 4096
    pooled = mean_pooling(hidden, torch.ones(1, 257, dtype=torch.bool))
    assert pooled.item() == pytest.approx((4096 + 256) / 257)


@pytest.mark.parametrize("pooling", POOLINGS.values())
def test_a_row_with_nothing_to_pool_is_an_error_that_names_it(pooling):
    mask = torch.tensor([[1, 1], [0, 0]], dtype=torch.bool)
    with pytest.raises(ValueError, match=r"rows \[1\] of the pooling mask have no token"):
        pooling(states(2, 2), mask)
