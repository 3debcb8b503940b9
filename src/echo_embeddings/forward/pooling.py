"""Pure functions from hidden states to one vector a text. Pooling knows no tokenizer and no template.

Every function takes ``hidden[batch, tokens, dim]`` and ``mask[batch, tokens]`` (true where a token is pooled: the
second copy), sums in float32 whatever the dtype of the states, and returns float32 ``[batch, dim]``. Masks may have
any shape of padding: left, right, or holes.
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

__all__ = ["POOLINGS", "last_pooling", "mean_pooling", "pool_packed", "rows_of", "weighted_mean_pooling"]


def mean_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The mean of the pooled tokens (paper, section 3: ``mean`` over the second occurrence)."""
    return _weighted(hidden, mask.float())


def weighted_mean_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The mean with weights 1, 2, 3, ... over the pooled tokens in their order (SGPT, arXiv 2202.08904; LLM2Vec)."""
    return _weighted(hidden, mask.cumsum(dim=1) * mask.float())


def last_pooling(
    hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The last pooled token."""
    _require_tokens(mask)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, positions, -1).amax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last].float()


def pool_packed(
    pooling: Callable[[Tensor, Tensor], Tensor],
    hidden: Float[Tensor, "one tokens dim"],
    places: Int[Tensor, " places"],
    counts: Sequence[int],
) -> Float[Tensor, "batch dim"]:
    """Pool each sequence of a row; arguments as for :func:`rows_of`.

    In portions: a long text and a thousand short ones would need a thousand times the long one's memory.
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
    """The pooled states of a row, a padded row for each of its sequences, and which of them are its own.

    Args:
        hidden: states of the row.
        places: where in it pooled tokens stand.
        counts: how many of them each sequence has; known to the host, which need not wait for the device.
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
    # Tokens outside the mask are replaced, not multiplied by zero: 0 * inf would be NaN.
    states = torch.where((weights > 0).unsqueeze(-1), hidden.float(), 0.0)
    return torch.einsum("btd,bt->bd", states, weights) / weights.sum(dim=1, keepdim=True)


def _require_tokens(mask: Bool[Tensor, "batch tokens"]) -> None:
    # Skipped on CUDA: reading the mask would synchronise.
    if mask.device.type != "cuda" and not bool(mask.any(dim=1).all()):
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"rows {empty} of the pooling mask have no token to pool")


def _portions(counts: Sequence[int], most: int) -> list[int]:
    """Where to cut sequences so that those between two cuts, padded, are at most so many tokens, or are one."""
    cuts, longest = [0], 0
    for i, count in enumerate(counts):
        longest = max(longest, count)
        if (i - cuts[-1] + 1) * longest > most and i > cuts[-1]:
            cuts.append(i)
            longest = count
    return [*cuts, len(counts)]


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"last": last_pooling, "mean": mean_pooling, "weighted_mean": weighted_mean_pooling}
)
