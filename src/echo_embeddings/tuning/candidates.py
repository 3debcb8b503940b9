"""What ``tune`` tries: templates, start and exit layers, poolings and transforms. Knows no texts and no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from echo_embeddings.config.config import EchoConfig, Layers, Length
from echo_embeddings.text.template import Template
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.transforms import EmbedFilter, Project, Standardize, Transform

__all__ = ["PASSES", "TRANSFORMS", "Candidate", "Pass", "candidates"]

_REWRITE = "Rewrite the following paragraph: {text}\nThe rewritten paragraph: {text}"
# The prompt of KV-Embedding (arXiv 2601.01046), whose pooling goes with it. What that method changes in the attention
# adds nothing (docs/results). PromptEOL, which pools the last token alone, was worse on both models
# (docs/guides/tune.md).
_ONE_WORD = "Context: {text} Compress the Context in one word:"

# In layers below this share of the depth, halves of a text find each other by their words (docs/guides/tune.md).
_SHALLOWEST = 0.65


def _centre(states: Vectors) -> Transform:
    return Standardize(states.mean(axis=0, dtype=np.float64), np.ones(states.shape[1]))


def _whiten(states: Vectors) -> Transform:
    """Less than the usual power: from some hundred texts, hardly more than half of the directions are known well.

    On other samples than those it was fitted on, 0.2 was better than 0.4 by 0.4 and 0.2 points on two models
    (research/log.md, 2026-11-28).
    """
    return Project.whiten(states, power=0.2)


#: From states to a fitted transform, by a name for tables. ``embed-filter`` is fitted on the unembedding instead.
TRANSFORMS: dict[str, Callable[[Vectors], Transform] | None] = {
    "none": None,
    "centre": _centre,
    "standardize": Standardize.fit,
    "whiten": _whiten,
    EmbedFilter.name: None,
}


@dataclass(frozen=True)
class Pass:
    """One run of the model over the texts, which gives the states of every exit layer.

    Attributes:
        name: for tables.
        template: the words around the text.
        start: where the copy is made, as a fraction of the depth; 0 repeats the tokens.
        pooling: as in ``EchoConfig``.
    """

    name: str
    template: Template
    start: float = 0.0
    pooling: str = "mean"

    def config(self, max_length: Length) -> EchoConfig:
        """The config that runs all layers."""
        return EchoConfig(self.template, pooling=self.pooling, start_layer=self.start or 0, max_length=max_length)

    def cost(self, exit_: int, layers: Layers) -> float:
        """What an embedding costs that ends at ``exit_``, in classical passes over the same text.

        The tokens of the template's words are left out, as for a long text.
        """
        return (exit_ + (exit_ - layers.start) * (self.template.copies - 1)) / layers.depth


@dataclass(frozen=True)
class Candidate:
    """One configuration of a model.

    Attributes:
        of: the pass.
        start: the layer at which the copy is made.
        exit: the exit layer, counted from 1.
        final_norm: whether the model's final norm is applied there.
        transform: a name in ``TRANSFORMS``.
        cost: in classical passes.
    """

    of: Pass
    start: int
    exit: int
    final_norm: bool
    transform: str
    cost: float

    def config(self, max_length: Length) -> EchoConfig:
        """Its config, without the transform, which is still to be fitted."""
        whole = self.of.config(max_length)
        return whole.replace(start_layer=self.start, exit_layer=self.exit, final_norm=self.final_norm)


#: The passes, what is most often best first: a budget of time leaves out what is least likely to win.
PASSES: tuple[Pass, ...] = (
    Pass("late echo", Template(_REWRITE), 0.6),
    Pass("one word", Template(_ONE_WORD, pool_tail=True), pooling="mean_and_last"),
    Pass("late echo", Template(_REWRITE), 0.5),
    Pass("classical", Template("Write a paragraph: {text}")),
)


def candidates(of: Pass, layers: Layers, max_cost: float) -> Iterator[tuple[int, list[Candidate]]]:
    """The configurations that one pass gives, for each exit by its number.

    Args:
        of: the pass.
        layers: those of the pass on this model.
        max_cost: leave out what costs more classical passes.
    """
    exits = [(layer, False) for layer in range(layers.start + 1, layers.depth + 1)] + [(layers.depth, True)]
    for number, (exit_, norm) in enumerate(exits):
        cost = of.cost(exit_, layers)
        if cost <= max_cost and exit_ >= _SHALLOWEST * layers.depth:
            yield number, [Candidate(of, layers.start, exit_, norm, name, cost) for name in TRANSFORMS]
