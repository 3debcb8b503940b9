"""Causal attention for processors, in blocks of queries. A block computes no scores for the keys after it.

torch's fused attention reaches about 60 GFLOP/s where plain matrix products reach 900 (two AVX-512 cores, bfloat16;
research/log.md). It also computes the half of the scores that a causal mask throws away. On processors with tiles
(AMX), torch's attention is three times as fast as these blocks, so it stays in use there. transformers knows this
attention by the name ``"echo_causal"``.
"""

from __future__ import annotations

from functools import lru_cache
from math import e, log2
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from echo_embeddings.forward.running import current
from echo_embeddings.model.architecture import attends_only, is_windowed

from .registration import register

__all__ = ["NAME", "causal_attention", "has_tiles", "is_used_on", "use_on"]

NAME = "echo_causal"
#: Queries in a block. Larger blocks need fewer matrix products, but compute more scores that the mask throws away.
_BLOCK = 256
#: Sums of powers are used between 1 / _SAFE and _SAFE. The dtypes below end at 2**127, so products with values fit too.
_SAFE = 2.0**100
_WIDE = (torch.bfloat16, torch.float32)
#: Up to this many tokens, blocks are at least as fast as torch's attention on tiles too (research/log.md).
_SHORT = 128


def use_on(model: PreTrainedModel) -> None:
    """Let a model on a processor attend this way, if it would use torch's fused attention otherwise.

    In float32 torch's attention is as fast and stays in use, except after a prefix. So an encoder without a prefix is
    the model's own forward pass.
    """
    config = model.config
    if model.device.type == "cpu" and config._attn_implementation == "sdpa":
        model.set_attn_implementation(register(NAME, _forward, _mask_for))


def is_used_on(model: PreTrainedModel) -> bool:
    """Whether all layers of a model attend this way, without a sliding window."""
    return (
        model.config.get_text_config()._attn_implementation == NAME and not is_windowed(model) and attends_only(model)
    )


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
    """Softmax attention of each token to itself and the tokens before it.

    Args:
        query: the queries of ``tokens`` tokens.
        key: the keys of the tokens; before them may come those of a prefix that all tokens see. One key head may serve
            several query heads.
        value: the values that belong to the keys.
        scaling: factor of the scores, usually ``dim ** -0.5``.
        first: the first token whose result is wanted; those before it get zeros.
    """
    batch, heads, tokens, dim = query.shape
    shared, prefix = key.shape[1], key.shape[2] - tokens
    # The queries that share a key head form one matrix: keys need not be copied, and the matrix products are large.
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
    """Attention of one block: the last ``queries`` of the ``seen`` tokens.

    A set is a key head of one text. Its rows are the queries of this block, once for each query head that shares it.

    Powers of scores are summed without subtracting the highest score first, which saves a third of a softmax's time. An
    ordinary softmax is used if the sums come near the end of the dtype's range, for other dtypes (float16 has a small
    range), and if a gradient is needed.
    """
    needs_gradient = torch.is_grad_enabled() and (rows.requires_grad or keys.requires_grad)
    if rows.dtype in _WIDE and not needs_gradient:
        # Powers of 2, not of e. With beta=0 the first argument is ignored.
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
    """A view of the scores of the last ``queries`` keys, where the causal mask hides some."""
    return scores.view(len(scores), -1, queries, scores.shape[-1])[..., -queries:]


@lru_cache(maxsize=256)
def _lower(queries: int, dtype: torch.dtype) -> Tensor:
    """A causal mask: 1 where a query sees a key, 0 for the keys after it."""
    return torch.ones(queries, queries, dtype=dtype).tril()


def _mask_for(*, mask_function: Any, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """The mask, called as transformers does: ``None`` for plain causal attention, also after a prefix."""
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
    """The attention, called as transformers does. All but plain causal attention goes to torch's own."""
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
    """``causal_attention`` by torch's kernel. Its own causal mask starts at the first key, so a prefix needs a mask."""
    tokens, seen = query.shape[2], key.shape[2]
    mask = None if tokens == seen else torch.ones(tokens, seen, dtype=torch.bool).tril(seen - tokens)
    shared = query.shape[1] != key.shape[1]
    states = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=shared
    )
    return states.transpose(1, 2).contiguous()


def _wanted_from(module: torch.nn.Module) -> int:
    """The first token whose result is used: in the last layer of a pass the first pooled one, else 0."""
    now = current()
    is_last = now is not None and now.last_layer is not None and getattr(module, "layer_idx", None) == now.last_layer
    return now.pooled_from if now is not None and is_last else 0
