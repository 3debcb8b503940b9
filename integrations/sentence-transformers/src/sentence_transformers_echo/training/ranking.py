"""Train the map behind the pooling to rank: texts that are near for the teacher shall be near for the student.

The head with which a student is trained is a regression, and makes dimensions small that it cannot predict well. The
student's whitened states rank better than the head's vectors, and better still after some steps of training one matrix
behind the whitening (research/log.md, 2026-11-20). States are computed once, so a step costs a few matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from echo_embeddings.types import Vectors
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import Project

__all__ = ["descend", "divergence", "ranked"]

#: Temperature of the softmax over cosines to the other texts of a step, for the teacher and the student.
_TEMPERATURE = 0.1
#: How many texts a step has; each is ranked against all the others.
_TEXTS = 1024
_LEARNING_RATE = 1e-3
#: With fewer texts than this the matrix is not trained.
_ENOUGH = 2000


def ranked(
    start: Project, states: Vectors, targets: Vectors, lengths: Sequence[int], steps: int, seed: int = 0
) -> Project:
    """Train a map after which texts have the same neighbours as with the teacher's vectors.

    The loss is the Kullback-Leibler divergence between the teacher's and the student's softmax over the cosines to the
    other texts, added up over ``lengths``. With fewer than 2,000 texts the vectors are only rotated: with 700, the map
    learned the texts by heart.

    Args:
        start: the map to continue from, with as many outputs as inputs (``Project.whiten``).
        states: ``[n, hidden]``, the input of ``start``.
        targets: ``[n, dim]``, the teacher's vectors.
        lengths: how many first dimensions are ranked, such as ``(256, 128, 64)``; the largest is that of the result.
        steps: steps of Adam, with a learning rate that falls to 0; with 0 steps the vectors are only rotated.
        seed: for the random draw of each step's texts.

    Returns:
        A map to ``max(lengths)`` dimensions.
    """
    vectors, targets = start(states), unit(targets)
    axes = _shared_axes(unit(vectors), targets)
    wanted = torch.from_numpy(targets)
    inputs = torch.from_numpy((vectors @ axes).astype(np.float32))
    matrix = torch.eye(inputs.shape[1])[:, : max(lengths)].clone().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    steps = steps if len(inputs) >= _ENOUGH else 0

    def loss() -> Tensor:
        some = torch.randperm(len(inputs), generator=generator)[:_TEXTS]
        outputs, likeness = inputs[some] @ matrix, wanted[some] @ wanted[some].T
        return torch.stack([divergence(outputs[:, :length], likeness, _TEMPERATURE) for length in lengths]).sum()

    descend([matrix], loss, steps)
    turned = axes @ matrix.detach().numpy().astype(np.float64)
    return Project(start.arrays["weight"] @ turned, start.arrays["bias"] @ turned)


def descend(parameters: Sequence[Tensor], loss: Callable[[], Tensor], steps: int) -> None:
    """Take ``steps`` steps of Adam on ``loss``, with a learning rate that falls linearly to 0."""
    optimizer = torch.optim.Adam(parameters, _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, max(steps, 1))
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _shared_axes(vectors: Vectors, targets: Vectors) -> NDArray[np.float64]:
    """A rotation of unit ``vectors``: the first dimensions after it have most in common with the teacher's vectors."""
    ours, theirs = vectors.astype(np.float64), targets.astype(np.float64)
    axes: NDArray[np.float64] = np.linalg.svd(ours.T @ (theirs - theirs.mean(axis=0)))[0]
    return axes


def divergence(vectors: Tensor, likeness: Tensor, temperature: float) -> Tensor:
    """The mean Kullback-Leibler divergence between the teacher's and the student's neighbours.

    Args:
        vectors: the student's, ``[n, dim]``.
        likeness: the teacher's cosines, ``[n, n]``.
        temperature: cosines are divided by it before the softmax.
    """
    directions = functional.normalize(vectors, dim=-1)
    itself = torch.eye(len(directions), dtype=torch.bool, device=vectors.device)
    ours, theirs = (
        (cosines / temperature).masked_fill(itself, -1e4).log_softmax(dim=-1)
        for cosines in (directions @ directions.T, likeness)
    )
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
