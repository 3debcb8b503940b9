"""Convert a ``Batch`` to a dict of features and back. Features are tensors that losses may slice, trim and join.

``echo_source`` holds for each token the position whose hidden state it starts from at ``start_layer``: its own, or for
a token of a later copy the position of the same token in the first copy. ``echo_pooled`` is true where a token is
pooled. If the config has a lexical part, ``echo_words`` holds the length of that part on the tokens of the last copy.

GradCache, and losses that join columns, need features that are numbers of shape ``[batch, tokens]`` and 0 on padding;
all of these are. No key ends in ``_input_ids`` or similar, because the trainer would take it for a column.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
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


#: The length of a text's lexical part, on each token of its last copy; only if the config has a lexical part.
WORDS = "echo_words"
FEATURES = ("input_ids", "attention_mask", "echo_source", "echo_pooled", WORDS)


def lay_out(contents: Sequence[Ids], layout: Layout) -> dict[str, Tensor]:
    """Put texts' content ids into a compiled template. ``attention_mask`` covers the whole sequence with all copies."""
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
    """The feature ``WORDS`` of texts in a compiled template.

    Args:
        contents: content ids of each text.
        layout: the compiled template.
        weight: length of the lexical part.
        like: a tensor of the same shape, such as ``input_ids``.

    Returns:
        float32 ``[batch, tokens]``.
    """
    lengths = torch.zeros(like.shape)
    for row, content in zip(lengths, contents, strict=True):
        row[layout.copy(-1, len(content))] = weight
    return lengths


def read(features: Mapping[str, Tensor]) -> Batch:
    """Make a batch from features, also if losses joined rows of other batches and trimmed or added padding."""
    ids, source = features["input_ids"], features["echo_source"]
    real = features["attention_mask"].bool()
    first = real & (source == torch.arange(ids.shape[1], device=ids.device))
    # If all rows have everything at the same positions, one row of positions serves all of them, which is faster.
    if bool((source == source[:1]).all() & (real == real[:1]).all()):
        real, first, source = real[:1], first[:1], source[:1]
    kept = int(first.sum(dim=1).max())
    # First-pass tokens in their order. Rows with fewer are filled with padding, which no token attends to.
    order = torch.where(first, 0, torch.where(real, 2, 1)).argsort(dim=1, stable=True)
    expansion = (first.cumsum(dim=1) - 1).gather(1, source)
    return Batch(ids, features["echo_pooled"].bool(), order[:, :kept].contiguous(), expansion)


def in_groups(
    features: Mapping[str, Tensor], run: Callable[[Mapping[str, Tensor]], Tensor], dtype: torch.dtype
) -> Tensor:
    """Call ``run`` on groups of rows of similar length, and put the results together.

    A group has as many tokens as a batch of ``EchoEncoder``, and fewer if memory runs out. The batches of
    sentence-transformers have a fixed number of texts, sorted by characters, and so more padding.

    Args:
        features: of all rows.
        run: turns the features of some rows into states ``[rows, tokens, dim]``.
        dtype: of the model.

    Returns:
        States of all rows, ``[batch, tokens, dim]``.
    """
    lengths = features["attention_mask"].sum(dim=1)
    # A backward pass is twice the work for each token, so larger groups are faster (research/log.md).
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
    """The states of the pooled tokens: ``[batch, kept, dim]``, right-padded, in float32, or float64 if they are."""
    kept = torch.arange(pooled_mask(pooled).shape[1], device=pooled.device)
    # The pooled tokens are contiguous: the last copy, or the last copy and all tokens after it.
    places = (pooled.int().argmax(dim=1, keepdim=True) + kept).clamp(max=pooled.shape[1] - 1)
    states = hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, hidden.shape[2]))
    return states.to(torch.promote_types(hidden.dtype, torch.float32))


def pooled_mask(pooled: Tensor) -> Tensor:
    """A mask ``[batch, kept]`` for the states that ``pooled_tokens`` returns: 1 for a token, 0 for padding."""
    lengths = pooled.sum(dim=1, keepdim=True)
    return (torch.arange(int(lengths.max()), device=pooled.device) < lengths).long()


def transformed(states: Tensor, transform: Transform) -> Tensor:
    """Apply ``transform`` to tensors. Its code uses only operators that numpy arrays and tensors both have."""
    twin: Any = copy.copy(transform)
    twin.arrays = {
        name: torch.tensor(array, dtype=states.dtype, device=states.device) for name, array in transform.arrays.items()
    }
    mapped: Tensor = twin.apply(states)
    return mapped


def with_prompt(template: Template, prompt: str | None, instruction: str | None) -> tuple[Template, str | None]:
    """Use a prompt as the instruction; put it in front of the template if that has no ``{instruction}``.

    Returns:
        The template and the instruction to use.

    Raises:
        ValueError: both a prompt and an instruction are given for ``{instruction}``.
    """
    if not prompt:
        return template, instruction
    if not template.takes_instruction:
        return template.prompted(prompt), instruction
    if instruction is not None:
        raise ValueError(
            f"prompt={prompt!r} and instruction={instruction!r} both say what {{instruction}} is; give one"
        )
    return template, prompt
