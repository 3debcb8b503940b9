"""KV-Embedding (arXiv 2601.01046, ACL 2026): in some layers all tokens also see the key and value of the last token.

At each of these layers the key and the value of the last token are put before all others, ``[k_n ; K]`` and
``[v_n ; V]``, and every token attends to them, so that early tokens see a summary of the text in one pass. The prompt
is ``Context: S Compress the Context in one word:`` (for queries with "Query"), and the vector is half the last token
and half the mean, at the last layer.

Not found in a source: what the moved key's position is (here it keeps the rotation of its own place), the bias on the
new column (here 0), over which tokens the mean goes (here the text and the words behind it), and how many layers around
the minimum of intrinsic dimension the authors take (here the middle third of the depth). The paper's average of 53.4 on
MTEB is for Mistral-7B, which could not be run here, so nothing of it was checked; the attention itself is checked
against a computation by hand in ``tests/research``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from echo_embeddings.forward.pooling import mean_and_last_pooling
from echo_embeddings.text.template import Template
from echo_embeddings.types import Role

from . import plain
from .method import Embedded, Method, Subject

__all__ = ["KVEmbedding"]

_NAME = "kv_embedding"


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    kv_layers: frozenset[int] = frozenset(),
    **more: Any,
) -> Any:
    """Attention of torch; in the layers ``kv_layers`` the last token's key and value stand before all others too."""
    if module.layer_idx in kv_layers:
        key = torch.cat([key[:, :, -1:], key], dim=2)
        value = torch.cat([value[:, :, -1:], value], dim=2)
        attention_mask = pad(attention_mask, (1, 0))  # 0 is added to the score: everyone sees it
    return sdpa_attention_forward(module, query, key, value, attention_mask, **more)


@contextmanager
def _attending(model: Any) -> Iterator[None]:
    AttentionInterface.register(_NAME, _attention)
    before = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name for it
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@dataclass(frozen=True)
class KVEmbedding(Method):
    """The last token's key and value shown to all tokens.

    Args:
        first: from this fraction of the depth.
        stop: up to this one; equal to ``first`` for no layer at all.
    """

    first: float = 1 / 3
    stop: float = 2 / 3

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:
        name = "Query" if role == "query" else "Context"
        template = Template(f"{name}: {{text}} Compress the {name} in one word:", pool_tail=True)
        layers = frozenset(range(round(self.first * subject.depth), round(self.stop * subject.depth)))
        with _attending(subject.body):
            return plain.embed(subject, plain.around(subject, texts, template), mean_and_last_pooling, kv_layers=layers)
