"""Causal attention for processors, in blocks of queries that read no key behind themselves.

torch's fused attention reaches about 60 GFLOP/s where plain matrix products reach 900 (two AVX-512 cores, bfloat16;
docs/log.md), and scores the half that a causal mask throws away. Known to transformers by the name ``"echo_causal"``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

__all__ = ["NAME", "causal_attention", "use_on"]

NAME = "echo_causal"
#: Queries a block: its scores stay in the cache, and little above the diagonal is computed in vain.
_BLOCK = 128
#: Above this many tokens blocks are twice as large: then fewer products count for more.
_LONG = 512


def use_on(model: PreTrainedModel) -> None:
    """Let a model on a processor attend this way, if it would use torch's fused attention in half precision.

    In float32 a model stays as it is: there an encoder is exactly the model's own forward pass.
    """
    config = model.config
    if model.device.type == "cpu" and model.dtype != torch.float32 and config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _forward)
        AttentionMaskInterface.register(NAME, sdpa_mask)  # no mask where plain causal attention is meant
        model.set_attn_implementation(NAME)


def causal_attention(
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch kv_heads tokens dim"],
    value: Float[Tensor, "batch kv_heads tokens dim"],
    scaling: float,
) -> Float[Tensor, "batch tokens heads dim"]:
    """Softmax attention of each token to itself and those before it; key and value heads may serve several queries'."""
    batch, heads, tokens, dim = query.shape
    shared = key.shape[1]
    # The queries that share a key head stand in one matrix, so keys need no copies and products are large.
    query = query.reshape(batch, shared, heads // shared, tokens, dim)
    key = key.reshape(batch * shared, tokens, dim).transpose(1, 2)
    value = value.reshape(batch * shared, tokens, -1)
    size = _BLOCK if tokens <= _LONG else 2 * _BLOCK
    blocks = []
    for start in range(0, tokens, size):
        stop = min(start + size, tokens)
        rows = query[:, :, :, start:stop].reshape(batch * shared, -1, dim)
        mask = _mask(stop - start, stop, heads // shared, query.dtype)
        scores = torch.baddbmm(mask, rows, key[:, :, :stop], alpha=scaling)
        states = torch.bmm(scores.softmax(dim=-1), value[:, :stop])
        blocks.append(states.view(batch, shared, heads // shared, stop - start, -1).permute(0, 3, 1, 2, 4))
    joined = blocks[0].contiguous() if len(blocks) == 1 else torch.cat(blocks, dim=1)
    return joined.view(batch, tokens, heads, -1)


@lru_cache(maxsize=256)
def _mask(queries: int, keys: int, repeats: int, dtype: torch.dtype) -> Tensor:
    """0 where the last ``queries`` of ``keys`` tokens may look, minus infinity behind them; ``repeats`` times."""
    mask = torch.full((queries, keys), float("-inf"), dtype=dtype).triu(diagonal=1 + keys - queries)
    return mask.repeat(repeats, 1)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # each number of blocks would be compiled anew
def _forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it. Whatever is not plain causal attention goes to torch's own."""
    causal = options.get("is_causal") is not False and getattr(module, "is_causal", True)
    plain = attention_mask is None and not dropout and options.get("position_bias") is None
    if not causal or not plain or query.shape[2] != key.shape[2]:
        found: tuple[Tensor, None]
        found = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
        return found
    return causal_attention(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None
