"""A loss that sentence-transformers lacks: texts of a batch shall rank each other as their teacher's vectors do."""

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

#: Temperature of the softmax over cosines to the other texts of a batch. It is lower than for the map in
#: :mod:`.ranking`, because the texts of a batch are more alike.
_TEMPERATURE = 0.05
#: Weight of the term ``1 - cosine``, beside the divergence.
_DIRECTION = 2.0


class RankDistillLoss(nn.Module):
    """The sum of two terms: how differently texts of a batch rank each other, and ``1 - cosine`` to the teacher.

    The first term is the Kullback-Leibler divergence between the teacher's and the student's softmax over cosines to
    the other texts of the batch. The student's vectors for it are the pooled states mapped by ``project``, as at the
    end of the run (``student.folded``). ``project`` is fixed; the adapters learn.

    The second term trains the head towards the teacher's own vectors. It keeps texts apart or together that never
    meet in a batch.

    Every text of a batch is ranked against all others, so there is no gradient caching: the whole batch must fit in
    memory.

    Args:
        model: a model with a linear head (``student.has_head``).
        project: maps pooled states to the vectors that are ranked.
        lengths: how many first dimensions are ranked, such as ``(256, 128, 64)``; the divergences are averaged.
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
            sentence_features: the features of one column of texts.
            labels: the teacher's unit vectors, ``[batch, dim]``.
        """
        (features,) = sentence_features
        module, pooling, head = self.model[0], self.model[1], self.model[2]
        with computing_in_half(self.model):  # the trainer's autocast covers calls of the whole model only
            tokens = module(features)
        pooled = pooling(tokens)
        states = pooled["sentence_embedding"].float()
        mapped = torch.addmm(self.get_buffer("bias"), states, self.get_buffer("weight"))
        likeness = labels @ labels.T
        ranks = [divergence(mapped[:, :length], likeness, _TEMPERATURE) for length in self.lengths]
        directions = functional.cosine_similarity(head(pooled)["sentence_embedding"].float(), labels, dim=-1)
        return torch.stack(ranks).mean() + _DIRECTION * (1 - directions).mean()
