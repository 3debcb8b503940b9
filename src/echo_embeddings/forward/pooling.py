"""Pure functions from hidden states to one vector a text. Pooling knows no tokenizer and no template.

Every function takes ``hidden[batch, tokens, dim]`` and ``mask[batch, tokens]`` (true where a token is pooled: the
second copy), sums in float32 whatever the dtype of the states, and returns float32 ``[batch, dim]``. Masks may have
any shape of padding: left, right, or holes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["POOLINGS", "last_pooling", "mean_pooling", "weighted_mean_pooling"]


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


def _weighted(
    hidden: Float[Tensor, "batch tokens dim"], weights: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    _require_tokens(weights > 0)
    # Tokens outside the mask are replaced, not multiplied by zero: 0 * inf would be NaN.
    states = torch.where((weights > 0).unsqueeze(-1), hidden.float(), 0.0)
    return torch.einsum("btd,bt->bd", states, weights) / weights.sum(dim=1, keepdim=True)


def _require_tokens(mask: Bool[Tensor, "batch tokens"]) -> None:
    # A GPU would have to be waited for.
    if mask.device.type != "cuda" and not bool(mask.any(dim=1).all()):
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"rows {empty} of the pooling mask have no token to pool")


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"last": last_pooling, "mean": mean_pooling, "weighted_mean": weighted_mean_pooling}
)
