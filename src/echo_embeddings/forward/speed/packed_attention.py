"""Attention for sequences of several lengths in one row, without padding. For GPUs.

The attention kernel is told where each sequence ends, by transformers' own arguments for flash attention
(``cu_seq_lens_q`` and so on). A model loaded with ``attn_implementation="flash_attention_2"`` takes them already. A
model on torch's attention gets ``"echo_packed"``, which calls torch's own kernel for sequences of several lengths.

An architecture that does not hand on these arguments would let texts see each other. So a backbone tries packing before
it relies on it (:func:`agrees`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from echo_embeddings.forward.batch import spans
from echo_embeddings.forward.running import current
from echo_embeddings.forward.transfer import sent
from echo_embeddings.model.architecture import is_windowed

from . import registration

__all__ = ["NAME", "agrees", "arguments", "is_used_on", "register", "use_on"]

NAME = "echo_packed"
_FLASH = ("flash_attention_2", "flash_attention_3")
#: The lowest cosine between a packed and a plain pass in half precision. Where texts see each other, it is far lower.
_ALIKE = 0.99
#: All but cuDNN's. On a Hopper GPU cuDNN comes first and compiles a kernel for every new shape. Batches of texts have
#: new shapes all the time, so a training step took 1.9 s instead of 0.4 s (research/log.md, 2026-11-26).
_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def use_on(model: PreTrainedModel) -> None:
    """Let a model on a GPU take packed sequences, if it would use torch's fused attention in half precision."""
    if model.device.type == "cuda" and model.dtype != torch.float32 and model.config._attn_implementation == "sdpa":
        register(model)


def register(model: PreTrainedModel) -> None:
    """Let a model use the attention ``NAME``. A batch that is not packed goes to torch's attention as before."""
    model.set_attn_implementation(registration.register(NAME, _forward, _mask_for))


def is_used_on(model: PreTrainedModel) -> bool:
    """Whether a model's attention takes packed sequences, in all layers and without a sliding window."""
    implementation = model.config.get_text_config()._attn_implementation
    return implementation in (NAME, *_FLASH) and not is_windowed(model)


def agrees(packed: Sequence[Tensor], plain: Sequence[Tensor]) -> bool:
    """Whether two passes over the same texts, packed and one by one, gave the same vectors."""
    pairs = zip(packed, plain, strict=True)
    return all(bool((functional.cosine_similarity(a.float(), b.float(), dim=-1) > _ALIKE).all()) for a, b in pairs)


def arguments(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """The arguments of a transformers model, beside the ids, for one row with sequences of these lengths."""
    ends = sent(np.cumsum([0, *lengths], dtype=np.int32), device)
    longest = max(lengths)
    return {
        "position_ids": sent(spans(np.zeros_like(lengths), np.array(lengths))[None], device),
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _mask_for(**options: Any) -> Tensor | None:
    """The mask, called as transformers does: ``None`` for a packed pass, where it would be huge (tokens x tokens)."""
    now = current()
    mask: Tensor | None = None if now is not None and now.is_packed else sdpa_mask(**options)
    return mask


def _forward(
    module: torch.nn.Module,
    query: Float[Tensor, "one heads tokens dim"],
    key: Float[Tensor, "one kv_heads tokens dim"],
    value: Float[Tensor, "one kv_heads tokens dim"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention, called as transformers does."""
    if cu_seq_lens_q is None or max_length_q is None:
        found: tuple[Tensor, None]
        with sdpa_kernel(_BACKENDS) if query.is_cuda else nullcontext():
            found = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
        return found
    return _apart(query, key, value, cu_seq_lens_q, max_length_q, scaling), None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # the kernel's signature is inspected
def _apart(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None
) -> Float[Tensor, "one tokens heads dim"]:
    """Causal attention within each sequence of a packed row."""
    attend = _kernel if query.is_cuda else _one_by_one
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    return attend(query, key, value, ends, longest, scaling)[None]


@lru_cache(maxsize=1)
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    """The names of a function's parameters; cached, because every layer asks."""
    return frozenset(inspect.signature(function).parameters)


def _kernel(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None
) -> Float[Tensor, "tokens heads dim"]:
    """Attend by torch's kernel, on ``[tokens, heads, dim]``.

    ``window_size=(-1, 0)`` means causal: all earlier tokens, no later ones. torch 2.10 has fewer of the arguments.
    """
    from torch.nn.attention.varlen import varlen_attn  # since torch 2.10

    known = _parameters(varlen_attn)
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:
            key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    if "scale" in known:
        options["scale"] = scaling
    elif scaling is not None:
        query = query * (scaling * query.shape[-1] ** 0.5)
    states: Any = varlen_attn(query, key, value, ends, ends, longest, longest, **options)
    done: Tensor = states
    return done


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None
) -> Float[Tensor, "tokens heads dim"]:
    """Attend as :func:`_kernel` does, on a processor."""
    del longest
    lengths = ends.diff().tolist()
    texts = zip(torch.split(query, lengths), torch.split(key, lengths), torch.split(value, lengths), strict=True)
    return torch.cat([_alone(*text, scaling) for text in texts])


def _alone(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Float[Tensor, "tokens heads dim"]:
    q, k, v = (states.transpose(0, 1)[None] for states in (query, key, value))
    attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
    return attended[0].transpose(0, 1)
