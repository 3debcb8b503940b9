"""Pure functions from hidden states to one vector for each text. Pooling knows no tokenizer and no template.

Every pooling takes ``hidden[batch, tokens, dim]`` and a boolean ``mask[batch, tokens]`` (true where a token is pooled:
the last copy), sums in float32 whatever the dtype of the states, and returns float32 ``[batch, dim]``. Padding may be
on the left, on the right, or between tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .transfer import sent

__all__ = [
    "POOLINGS",
    "last_pooling",
    "mean_and_last_pooling",
    "mean_pooling",
    "pool_packed",
    "rows_of",
    "weighted_mean_pooling",
]


def mean_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The mean of the pooled tokens (paper, section 3: ``mean`` over the second occurrence)."""
    return _weighted(hidden, mask.float())


def weighted_mean_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The mean of the pooled tokens with weights 1, 2, 3, ... in their order (SGPT, arXiv 2202.08904; LLM2Vec)."""
    return _weighted(hidden, mask.cumsum(dim=1) * mask.float())


def last_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The last pooled token."""
    _require_tokens(mask)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, positions, -1).amax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last].float()


def mean_and_last_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """Half the mean of the pooled tokens, half the last one of them (KV-Embedding, arXiv 2601.01046).

    It is for templates with words behind the text that ask for it in a word (``Template(..., pool_tail=True)``).
    """
    return (mean_pooling(hidden, mask) + last_pooling(hidden, mask)) / 2


def pool_packed(
    pooling: Callable[[Tensor, Tensor], Tensor],
    hidden: Float[Tensor, "one tokens dim"],
    places: Int[Tensor, " places"],
    counts: Sequence[int],
) -> Float[Tensor, "batch dim"]:
    """Pool each sequence of a packed row with one of ``POOLINGS``; the other arguments are those of :func:`rows_of`.

    Sequences are padded and pooled in portions. Otherwise one long text among a thousand short ones would pad all of
    them to its length.
    """
    vectors, place = [], 0
    for start, end in pairwise(_portions(counts, hidden.shape[1])):
        own = counts[start:end]
        vectors.append(pooling(*rows_of(hidden, places[place : place + sum(own)], own)))
        place += sum(own)
    return torch.cat(vectors)


def rows_of(
    hidden: Float[Tensor, "one tokens dim"], places: Int[Tensor, " places"], counts: Sequence[int]
) -> tuple[Float[Tensor, "batch most dim"], Bool[Tensor, "batch most"]]:
    """Unpack the pooled states of a packed row into one padded row for each sequence.

    Args:
        hidden: the states of the packed row.
        places: the positions of its pooled tokens.
        counts: how many pooled tokens each sequence has. A list and not a tensor, so the host need not wait for the
            device.

    Returns:
        The states, padded to the highest count, and a mask that is true where a state is not padding.
    """
    own = np.array(counts)[:, None]
    columns, ends = np.arange(max(counts)), np.cumsum(counts)[:, None]
    index = np.minimum(ends - own + columns, ends[-1] - 1)
    states = hidden[0].index_select(0, places)[sent(index, hidden.device)]
    return states, sent(columns < own, hidden.device)


def _weighted(
    hidden: Float[Tensor, "batch tokens dim"], weights: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    _require_tokens(weights > 0)
    # Tokens that are not pooled are replaced by zero, not multiplied by it: 0 * inf would be NaN.
    states = torch.where((weights > 0).unsqueeze(-1), hidden.float(), 0.0)
    return torch.einsum("btd,bt->bd", states, weights) / weights.sum(dim=1, keepdim=True)


def _require_tokens(mask: Bool[Tensor, "batch tokens"]) -> None:
    # Skipped on CUDA: reading the mask would synchronise.
    if mask.device.type != "cuda" and not bool(mask.any(dim=1).all()):
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"rows {empty} of the pooling mask have no token to pool")


def _portions(counts: Sequence[int], most: int) -> list[int]:
    """Group neighbouring sequences into portions that have at most ``most`` tokens when they are padded.

    A longer sequence is a portion of its own. Returned are the first index of each portion, and at the end the number
    of sequences: counts 30, 1, 30 with ``most=20`` give 0, 1, 2, 3.
    """
    starts, longest = [0], 0
    for i, count in enumerate(counts):
        longest = max(longest, count)
        if (i - starts[-1] + 1) * longest > most and i > starts[-1]:
            starts.append(i)
            longest = count
    return [*starts, len(counts)]


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "last": last_pooling,
        "mean": mean_pooling,
        "mean_and_last": mean_and_last_pooling,
        "weighted_mean": weighted_mean_pooling,
    }
)
