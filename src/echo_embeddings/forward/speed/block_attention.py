"""Causal attention for processors, in blocks of queries that read no key behind themselves.

torch's fused attention reaches about 60 GFLOP/s where plain matrix products reach 900 (two AVX-512 cores, bfloat16;
research/log.md), and scores the half that a causal mask throws away. On processors with tiles (AMX) it is three times
as fast as these blocks, and stays. Known to transformers by the name ``"echo_causal"``.
"""

from __future__ import annotations

from functools import lru_cache
from math import e, log2
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function, sdpa_mask

from echo_embeddings.forward.running import current
from echo_embeddings.model.architecture import is_windowed

__all__ = ["NAME", "causal_attention", "has_tiles", "is_used_on", "use_on"]

NAME = "echo_causal"
#: Queries a block: fewer products, and not too much above the diagonal that is computed in vain.
_BLOCK = 256
#: Sums of powers within this of 1 are far from where these dtypes end (2**127), with room for products with values.
_SAFE = 2.0**100
_WIDE = (torch.bfloat16, torch.float32)
#: Up to so many tokens blocks are no slower on tiles either (research/log.md).
_SHORT = 128


def use_on(model: PreTrainedModel) -> None:
    """Let a model on a processor attend this way, if it would use torch's fused attention.

    In float32, where that is as fast, only behind a prefix: an encoder without one is the model's own forward pass.
    """
    config = model.config
    if model.device.type == "cpu" and config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _forward)
        AttentionMaskInterface.register(NAME, _mask_for)
        model.set_attn_implementation(NAME)


def is_used_on(model: PreTrainedModel) -> bool:
    """Whether all layers of a model attend this way, to everything before them."""
    return model.config.get_text_config()._attn_implementation == NAME and not is_windowed(model)


@lru_cache(maxsize=1)
def has_tiles() -> bool:
    """Whether the processor has tiles for bfloat16 (AMX), which torch's fused attention uses."""
    return bool(torch.cpu._is_amx_tile_supported())


def causal_attention(
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch kv_heads seen dim"],
    value: Float[Tensor, "batch kv_heads seen dim"],
    scaling: float,
    first: int = 0,
) -> Float[Tensor, "batch tokens heads dim"]:
    """Softmax attention of each token to itself and those before it; zeros for those before ``first``.

    Key and value heads may serve several query heads. Keys beyond the queries' number are of a prefix that all see.
    """
    batch, heads, tokens, dim = query.shape
    shared, prefix = key.shape[1], key.shape[2] - tokens
    # The queries that share a key head stand in one matrix, so keys need no copies and products are large.
    query = query.reshape(batch, shared, heads // shared, tokens, dim)
    key = key.reshape(batch * shared, prefix + tokens, dim).transpose(1, 2)
    value = value.reshape(batch * shared, prefix + tokens, -1)
    blocks = [query.new_zeros(batch, first, shared, heads // shared, value.shape[-1])] if first else []
    for start in range(first, tokens, _BLOCK):
        stop = min(start + _BLOCK, tokens)
        rows = query[:, :, :, start:stop].reshape(batch * shared, -1, dim)
        seen = prefix + stop
        states = _block(rows, key[:, :, :seen], value[:, :seen], stop - start, scaling)
        blocks.append(states.view(batch, shared, heads // shared, stop - start, -1).permute(0, 3, 1, 2, 4))
    joined = blocks[0].contiguous() if len(blocks) == 1 else torch.cat(blocks, dim=1)
    return joined.view(batch, tokens, heads, -1)


def _block(
    rows: Float[Tensor, "sets rows dim"],
    keys: Float[Tensor, "sets dim seen"],
    values: Float[Tensor, "sets seen dim"],
    queries: int,
    scaling: float,
) -> Float[Tensor, "sets rows dim"]:
    """Attention of the last so many ``queries`` of the tokens seen, which each set's rows hold once for every head.

    Powers of scores are summed as they are, not relative to the highest, which saves a third of a softmax's time. Where
    they come near the end of a dtype's range (float16 has little), or a gradient is wanted, it is a softmax.
    """
    needs_gradient = torch.is_grad_enabled() and (rows.requires_grad or keys.requires_grad)
    if rows.dtype in _WIDE and not needs_gradient:
        # In base 2; beta=0: what is given first is not read.
        weights = torch.baddbmm(rows.new_empty(1, 1, 1), rows, keys, beta=0, alpha=scaling * log2(e)).exp2_()
        _last(weights, queries).mul_(_lower(queries, weights.dtype))
        sums = weights.sum(dim=-1, keepdim=True)
        lowest, highest = sums.aminmax()
        if lowest > 1 / _SAFE and highest < _SAFE:
            return torch.bmm(weights, values).div_(sums)
    scores = torch.bmm(rows, keys) * scaling
    _last(scores, queries).masked_fill_(_lower(queries, rows.dtype) == 0, float("-inf"))
    return torch.bmm(scores.softmax(dim=-1), values)


def _last(scores: Tensor, queries: int) -> Float[Tensor, "sets repeats queries queries"]:
    """A view of the part of a block in which a causal mask is not empty."""
    return scores.view(len(scores), -1, queries, scores.shape[-1])[..., -queries:]


@lru_cache(maxsize=256)
def _lower(queries: int, dtype: torch.dtype) -> Tensor:
    """1 where a query may look, 0 behind it."""
    return torch.ones(queries, queries, dtype=dtype).tril()


def _mask_for(*, mask_function: Any, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """As transformers asks for a mask: none where plain causal attention is meant, also behind a prefix."""
    plain = mask_function is causal_mask_function and attention_mask is None and options.get("local_size") is None
    whole = options["kv_length"] == options.get("q_offset", 0) + options["q_length"] and not options.get("kv_offset")
    if plain and whole and options.get("allow_is_causal_skip", True):
        return None
    mask: Tensor | None = sdpa_mask(mask_function=mask_function, attention_mask=attention_mask, **options)
    return mask


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
    torchs = query.dtype == torch.float32 and query.shape[2] == key.shape[2]
    if not causal or not plain or torchs:
        found: tuple[Tensor, None]
        found = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
        return found
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.dtype == torch.bfloat16 and query.shape[2] > _SHORT and has_tiles():
        return _fused(query, key, value, scaling), None
    return causal_attention(query, key, value, scaling, _wanted_from(module)), None


def _fused(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Float[Tensor, "batch tokens heads dim"]:
    """``causal_attention`` by torch's kernel, which aligns its own causal mask with the first key."""
    tokens, seen = query.shape[2], key.shape[2]
    mask = None if tokens == seen else torch.ones(tokens, seen, dtype=torch.bool).tril(seen - tokens)
    shared = query.shape[1] != key.shape[1]
    states = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=shared
    )
    return states.transpose(1, 2).contiguous()


def _wanted_from(module: torch.nn.Module) -> int:
    """The first token whose result is read: in the last layer of a pass, the first pooled one."""
    now = current()
    is_last = now is not None and now.last_layer is not None and getattr(module, "layer_idx", None) == now.last_layer
    return now.pooled_from if now is not None and is_last else 0
