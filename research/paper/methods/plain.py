"""transformers' own forward pass over rows of equal length, with a mask of our choice: no padding, no cache, no tricks.

The rivals that are no config of the library are built on it, so that a reader sees all of a method in its file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from echo_embeddings.model.architecture import cache_argument, drop_layers_above, with_layers

from .method import Embedded, Subject

__all__ = ["NEW", "Pool", "Row", "around", "embed", "masks", "visible_causal"]

#: Stands for a token that the vocabulary does not have; its embedding is the mean of the vocabulary's.
NEW = -1
_TOKENS = 2048
#: Pools ``hidden[batch, tokens, dim]`` where ``mask[batch, tokens]`` is true.
Pool = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """What the model reads for one text.

    Attributes:
        ids: token ids, or :data:`NEW`.
        pooled: the positions that are pooled.
        copies: pairs of positions ``(to, from)``; for methods that copy states.
    """

    ids: tuple[int, ...]
    pooled: tuple[int, ...]
    copies: tuple[tuple[int, int], ...] = ()


def around(subject: Subject, texts: Sequence[str], template: Any) -> list[Row]:
    """Lay texts into a template as the library does; pooled is what the library pools."""
    tokenizer = subject.echo_tokenizer
    layout = tokenizer.layout(template)
    rows = []
    for content in tokenizer.contents(texts, spaced=template.spaced):
        pooled = layout.pooled(len(content.ids))
        rows.append(Row(tuple(layout.assemble(content.ids).tolist()), tuple(range(pooled.start, pooled.stop))))
    return rows


def visible_causal(tokens: int) -> Tensor:
    """Each token sees itself and those before it: boolean ``[tokens, tokens]``, a row for each that looks."""
    return torch.ones(tokens, tokens, dtype=torch.bool).tril()


def embed(
    subject: Subject,
    rows: Sequence[Row],
    pool: Pool,
    *,
    visible: Callable[[int], Tensor] = visible_causal,
    layers: int | None = None,
    hooked: Callable[[list[Row]], AbstractContextManager[object]] = lambda _: nullcontext(),
    prefix: int = 0,
    **more: Any,
) -> Embedded:
    """Run rows, in batches of equal length, and pool them.

    Args:
        subject: the model.
        rows: one for each text.
        pool: the pooling.
        visible: which tokens see which, for a number of tokens.
        layers: run so many layers, and leave out the final norm; ``None`` runs all, and the norm.
        hooked: a context for the pass over one batch, such as one that sets hooks.
        prefix: so many tokens are the same in all rows and run once. Only for causal masks.
        more: arguments for the model's forward pass.
    """
    model = subject.body
    if layers is not None:
        model = with_layers(drop_layers_above(model, layers), lambda stack: stack, final_norm=False)
    vectors = np.empty((len(rows), int(model.config.hidden_size)), np.float32)
    with torch.inference_mode():
        before = _run_once(model, rows[0].ids[:prefix]) if prefix and rows else []
    for group in _groups([len(row.ids) for row in rows]):
        batch = [rows[i] for i in group]
        mask = torch.zeros(len(batch), len(batch[0].ids), dtype=torch.bool)
        for i, row in enumerate(batch):
            mask[i, list(row.pooled)] = True
        seen = visible(mask.shape[1])[prefix:]
        with torch.inference_mode(), hooked(batch):
            states = model(
                inputs_embeds=_embedded(model, torch.tensor([row.ids[prefix:] for row in batch])),
                attention_mask=masks(model.config, seen),
                use_cache=bool(prefix),
                **(more | _behind(model, before, len(batch))),
            ).last_hidden_state
        vectors[group] = pool(states, mask[:, prefix:]).numpy()
    depth = subject.depth if layers is None else layers
    return Embedded(vectors, depth * sum(len(row.ids) for row in rows))


def _run_once(model: Any, prefix: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of a prefix in each layer."""
    cache = DynamicCache()
    mask = masks(model.config, visible_causal(len(prefix)))
    model(
        inputs_embeds=_embedded(model, torch.tensor([prefix])),
        attention_mask=mask,
        use_cache=True,
        **{cache_argument(model): cache},
    )
    return [(layer.keys, layer.values) for layer in cache.layers]


def _behind(model: Any, before: Sequence[tuple[Tensor, Tensor]], rows: int) -> dict[str, Any]:
    """Arguments of a pass over so many rows that begin behind a prefix."""
    cache = DynamicCache()
    for i, (keys, values) in enumerate(before):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
    return {cache_argument(model): cache} if before else {}


def _embedded(model: Any, ids: Tensor) -> Tensor:
    table = model.get_input_embeddings()
    found: Tensor = table(ids.clamp(min=0))
    if bool((ids == NEW).any()):
        scale = getattr(table, "embed_scale", 1.0)  # Gemma multiplies embeddings inside the table
        found = torch.where((ids == NEW).unsqueeze(-1), table.weight.mean(0) * scale, found)
    return found


def masks(config: Any, visible: Tensor) -> Any:
    """An attention mask as the model takes it, which every layer uses as it is; sliding windows stay in force.

    Args:
        config: the model's.
        visible: boolean ``[looking, seen]``; the tokens that look are the last ones.
    """
    looking, seen = visible.shape
    kinds = set(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None)
    distance = (torch.arange(seen - looking, seen)[:, None] - torch.arange(seen)).abs()
    narrow = visible if window is None else visible & (distance < window)
    if len(kinds) > 1:
        return {kind: _added(narrow if kind == "sliding_attention" else visible) for kind in kinds}
    return _added(visible if kinds == {"full_attention"} else narrow)


def _added(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)[None, None]


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of rows in batches of one length and at most 2,048 tokens, the longest first."""
    of_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, length in enumerate(lengths):
        of_length[length].append(i)
    groups = []
    for length in sorted(of_length, reverse=True):
        most = max(1, _TOKENS // length)
        rows = of_length[length]
        groups += [rows[start : start + most] for start in range(0, len(rows), most)]
    return groups
