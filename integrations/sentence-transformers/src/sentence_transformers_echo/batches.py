"""A batch of the core as a dict of features, and back: tensors only, so that losses may slice, trim and join them.

``echo_source`` holds for each token the place whose hidden state it starts from at ``start_layer``: its own, or for a
token of a later copy that of its twin in the first. ``echo_pooled`` is true where a token is pooled. With a lexical
part, ``echo_words`` is that part's length on the tokens of the last copy. All are numbers of shape ``[batch, tokens]``
and 0 on padding, which is what GradCache and merged columns ask of a feature; no key ends in ``_input_ids`` or the
like, which the trainer would take for a column.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from echo_embeddings.engine import batch_size, batching
from echo_embeddings.forward.batch import Batch
from echo_embeddings.text.layout import Ids, Layout
from echo_embeddings.text.template import Template
from echo_embeddings.vectors.transforms import Transform

__all__ = [
    "WORDS",
    "in_groups",
    "lay_out",
    "pooled_mask",
    "pooled_tokens",
    "read",
    "transformed",
    "with_prompt",
    "words",
]


#: How long a text's lexical part is, on each token of its last copy; only where the config has such a part.
WORDS = "echo_words"
FEATURES = ("input_ids", "attention_mask", "echo_source", "echo_pooled", WORDS)


def lay_out(contents: Sequence[Ids], layout: Layout) -> dict[str, Tensor]:
    """Texts' content ids in a compiled template; ``attention_mask`` is that of the whole sequence, all copies."""
    batch = Batch.of(contents, layout, "cpu")
    lengths = torch.tensor([layout.total(len(content)) for content in contents])
    mask = (torch.arange(batch.ids.shape[1]) < lengths[:, None]).long()
    return {
        "input_ids": batch.ids,
        "attention_mask": mask,
        "echo_source": batch.first_pass.gather(1, batch.expansion) * mask,
        "echo_pooled": batch.pooled,
    }


def words(contents: Sequence[Ids], layout: Layout, weight: float, like: Tensor) -> Tensor:
    """The feature ``WORDS`` of texts in a compiled template, of the shape of their ids."""
    lengths = torch.zeros(like.shape)
    for row, content in zip(lengths, contents, strict=True):
        row[layout.copy(-1, len(content))] = weight
    return lengths


def read(features: Mapping[str, Tensor]) -> Batch:
    """The batch of these features, wherever its rows came from and however much padding was cut or added."""
    ids, source = features["input_ids"], features["echo_source"]
    real = features["attention_mask"].bool()
    first = real & (source == torch.arange(ids.shape[1], device=ids.device))
    # Rows in which everything stands in the same place share one plan, which is faster.
    if bool((source == source[:1]).all() & (real == real[:1]).all()):
        real, first, source = real[:1], first[:1], source[:1]
    kept = int(first.sum(dim=1).max())
    # First-pass tokens in their order; rows with fewer are filled up with padding, which no token sees.
    order = torch.where(first, 0, torch.where(real, 2, 1)).argsort(dim=1, stable=True)
    expansion = (first.cumsum(dim=1) - 1).gather(1, source)
    return Batch(ids, features["echo_pooled"].bool(), order[:, :kept].contiguous(), expansion)


def in_groups(
    features: Mapping[str, Tensor], run: Callable[[Mapping[str, Tensor]], Tensor], dtype: torch.dtype
) -> Tensor:
    """``run`` on rows of like length at a time: as many tokens as ``EchoEncoder`` takes, and fewer if memory runs out.

    sentence-transformers makes batches of a fixed count of texts, sorted by characters; that pads more.
    ``dtype`` is the model's.
    """
    lengths = features["attention_mask"].sum(dim=1)
    # Backwards there is twice the work on each token, so larger groups pay (research/log.md).
    budget = batch_size.default_budget(lengths.device) * (2 if torch.is_grad_enabled() else 1)
    groups = batching.plan(lengths.tolist(), budget, batch_size.overhead_of(lengths.device, dtype, budget))
    if len(groups) == 1:
        return run(features)

    def compute(rows: list[int]) -> Tensor:
        width = int(lengths[rows].max())
        return run({name: value[rows, :width] for name, value in features.items() if name in FEATURES})

    shape = pooled_mask(features["echo_pooled"]).shape
    gathered: Tensor | None = None
    for rows, states in batching.run(groups, compute):
        gathered = states.new_zeros(*shape, states.shape[2]) if gathered is None else gathered
        gathered[rows, : states.shape[1]] = states
    if gathered is None:
        raise ValueError("the batch is empty")
    return gathered


def pooled_tokens(hidden: Tensor, pooled: Tensor) -> Tensor:
    """The pooled tokens' states ``[batch, kept, dim]``, right-padded, in float32 or better."""
    kept = torch.arange(pooled_mask(pooled).shape[1], device=pooled.device)
    # What is pooled stands in one piece: the last copy, or that and all behind it.
    places = (pooled.int().argmax(dim=1, keepdim=True) + kept).clamp(max=pooled.shape[1] - 1)
    states = hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, hidden.shape[2]))
    return states.to(torch.promote_types(hidden.dtype, torch.float32))


def pooled_mask(pooled: Tensor) -> Tensor:
    """Which of the states that ``pooled_tokens`` returns are no padding."""
    lengths = pooled.sum(dim=1, keepdim=True)
    return (torch.arange(int(lengths.max()), device=pooled.device) < lengths).long()


def transformed(states: Tensor, transform: Transform) -> Tensor:
    """``transform`` on tensors: its arithmetic is written in operators that arrays and tensors share."""
    twin: Any = copy.copy(transform)
    twin.arrays = {
        name: torch.tensor(array, dtype=states.dtype, device=states.device) for name, array in transform.arrays.items()
    }
    mapped: Tensor = twin.apply(states)
    return mapped


def with_prompt(template: Template, prompt: str | None, instruction: str | None) -> tuple[Template, str | None]:
    """A prompt takes the place of the instruction, or stands in front of a template that has none."""
    if not prompt:
        return template, instruction
    if not template.takes_instruction:
        return replace(template, text=prompt.replace("{", "{{").replace("}", "}}") + template.text), instruction
    if instruction is not None:
        raise ValueError(
            f"prompt={prompt!r} and instruction={instruction!r} both say what {{instruction}} is; give one"
        )
    return template, prompt
