"""Several poolings of the same pass: states cost time, and what is made of them does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from echo_embeddings import EchoEncoder
from echo_embeddings.engine.readout import Take, pooled_state
from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.pooling import mean_pooling
from echo_embeddings.text.layout import Layout
from echo_embeddings.types import Role, Vectors

__all__ = ["copies", "cosines", "pooled", "token_states", "unit"]


def pooled(
    encoder: EchoEncoder, texts: Sequence[str], poolings: Sequence[str], role: Role = "document"
) -> list[Vectors]:
    """Embed texts once and pool the last copy in several ways; transforms and words of the config are left out.

    Args:
        encoder: the model and the template; its own pooling does not matter.
        texts: the texts.
        poolings: such as ``["mean", "last"]``.
        role: chooses the template.

    Returns:
        Unit vectors ``[texts, dim]`` for each pooling.
    """
    return taken(encoder, texts, [pooled_state(pooling) for pooling in poolings], role)


def copies(encoder: EchoEncoder, texts: Sequence[str]) -> list[Vectors]:
    """The mean over each copy of the text, all from one pass: unit vectors ``[texts, dim]`` for each copy.

    No token sees a later one. So the second of four copies is what the last of two would be.
    """
    layout = encoder.runtime.layout(encoder.config.template_for("document"))
    return taken(encoder, texts, [_mean_of_copy(layout, copy) for copy in range(layout.copies)])


def taken(encoder: EchoEncoder, texts: Sequence[str], takes: Sequence[Take], role: Role = "document") -> list[Vectors]:
    """Unit vectors ``[texts, dim]`` for each function from the states of a batch to one vector a text."""
    runtime = encoder.runtime
    template = runtime.config.template_for(role)
    contents, layout = runtime.contents(texts, template, None), runtime.layout(template)
    out: Vectors | None = None

    def all_of_them(hidden: Tensor, batch: Batch) -> Tensor:
        return torch.stack([take(hidden, batch) for take in takes], dim=1)

    for group, rows in runtime._passes(contents, layout, all_of_them):  # noqa: SLF001 - several readouts of one pass
        found = rows.numpy()
        out = np.zeros((len(texts), *found.shape[1:]), np.float32) if out is None else out
        out[group] = found
    return [unit(np.zeros((0, 1), np.float32) if out is None else out[:, number]) for number in range(len(takes))]


def token_states(encoder: EchoEncoder, texts: Sequence[str]) -> list[Vectors]:
    """The states of each text's tokens in its last copy, ``[tokens, dim]``, as the model gives them."""
    runtime = encoder.runtime
    template = runtime.config.template_for("document")
    contents = runtime.contents(texts, template, None)
    found = runtime.token_vectors(texts, contents, runtime.layout(template), "document")
    return [one.vectors for one in found]


def unit(vectors: Vectors) -> Vectors:
    """Each row divided by its length."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


def cosines(a: Vectors, b: Vectors) -> list[float]:
    """The cosine of each row of ``a`` with the same row of ``b``, with six decimals."""
    return [round(float(one), 6) for one in np.einsum("nd,nd->n", unit(a), unit(b), dtype=np.float64)]


def _mean_of_copy(layout: Layout, copy: int) -> Callable[[Tensor, Batch], Tensor]:
    # The last copy is where the batch says, with or without the template's beginning; the others lie before it.
    between = sum(len(literal) for literal in layout.literals[copy + 1 : -1])

    def take(hidden: Tensor, batch: Batch) -> Tensor:
        counts = batch.pooled.sum(dim=1, keepdim=True)
        last = batch.pooled.int().argmax(dim=1, keepdim=True)
        start = last - (layout.copies - 1 - copy) * counts - between
        places = torch.arange(hidden.shape[1], device=hidden.device)[None]
        return mean_pooling(hidden, (places >= start) & (places < start + counts))

    return take
