"""The loss that sentence-transformers lacks: single texts whose vectors shall rank each other as a teacher's do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from echo_embeddings.vectors.transforms import Project

from .ranking import divergence
from .student import computing_in_half

__all__ = ["RankDistillLoss"]

#: Of the softmax over cosines to the other texts of a batch: lower than for the map (:mod:`.ranking`), since a batch
#: holds near texts.
_TEMPERATURE = 0.05
#: How much the direction of each vector counts beside its neighbours.
_DIRECTION = 2.0


class RankDistillLoss(nn.Module):
    """Kullback-Leibler divergence from the teacher's softmax over the other texts of the batch, and ``1 - cosine``.

    What is ranked are the states behind ``project``, as they will be at the end of the run (``student.folded``); it
    stays as it is, the adapters learn. The head learns the teacher's own vectors beside it, which keeps texts in
    their places that never meet in a batch. Every text of a batch is ranked against all others of it, so there is no
    gradient caching: the batch must fit the memory.

    Args:
        model: with a linear head (``student.has_head``).
        project: from pooled states to the vectors that are ranked.
        lengths: prefixes of them that are ranked, each for itself; the divergences are averaged.
    """

    def __init__(self, model: SentenceTransformer, project: Project, lengths: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.lengths = tuple(lengths)
        for name, array in project.arrays.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32, device=model.device), persistent=False)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            sentence_features: of one column of texts.
            labels: the teacher's unit vectors, ``[batch, dim]``.
        """
        (features,) = sentence_features
        module, pooling, head = self.model[0], self.model[1], self.model[2]
        with computing_in_half(self.model):  # the trainer's own autocast is around the whole model's forward alone
            tokens = module(features)
        pooled = pooling(tokens)
        states = pooled["sentence_embedding"].float()
        mapped = torch.addmm(self.get_buffer("bias"), states, self.get_buffer("weight"))
        likeness = labels @ labels.T
        ranks = [divergence(mapped[:, :length], likeness, _TEMPERATURE) for length in self.lengths]
        directions = functional.cosine_similarity(head(pooled)["sentence_embedding"].float(), labels, dim=-1)
        return torch.stack(ranks).mean() + _DIRECTION * (1 - directions).mean()
