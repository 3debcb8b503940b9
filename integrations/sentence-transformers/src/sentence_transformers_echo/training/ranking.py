"""The map behind the pooling, taught to rank: what is near for the teacher shall be near for the student.

The head through which a student learned is a regression, which shrinks whatever it is unsure of; its whitened states
rank better, and better still after some steps on one matrix behind the whitening (research/log.md, 2026-11-20). States
are computed once before, so a step costs a few products of matrices.
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

#: Of the softmax over cosines to the other texts of a step, the teacher's and the student's.
_TEMPERATURE = 0.1
#: Texts of a step: each is ranked against all the others.
_TEXTS = 1024
_LEARNING_RATE = 1e-3
_ENOUGH = 2000


def ranked(
    start: Project, states: Vectors, targets: Vectors, lengths: Sequence[int], steps: int, seed: int = 0
) -> Project:
    """A map whose vectors, and their first ``lengths`` dimensions, have the neighbours that the teacher's have.

    The loss is the Kullback-Leibler divergence between the two softmaxes over the cosines to the other texts, added up
    over the lengths. Below 2,000 texts only the axes are turned: of 700 the map learned the texts by heart.

    Args:
        start: the map to go on from, onto as many axes as it takes dimensions (``Project.whiten``).
        states: ``[n, hidden]``, what ``start`` is given.
        targets: ``[n, dim]``, the teacher's vectors.
        lengths: of the vectors; the longest is the result's own.
        steps: of Adam, its learning rate falling to 0; 0 only orders the axes.
        seed: for the draw of each step's texts.

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
    """So many steps of Adam on ``loss``, whose learning rate falls to 0."""
    optimizer = torch.optim.Adam(parameters, _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, max(steps, 1))
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _shared_axes(vectors: Vectors, targets: Vectors) -> NDArray[np.float64]:
    """A rotation of unit ``vectors``: first the axes that say most of the teacher's unit vectors."""
    ours, theirs = vectors.astype(np.float64), targets.astype(np.float64)
    axes: NDArray[np.float64] = np.linalg.svd(ours.T @ (theirs - theirs.mean(axis=0)))[0]
    return axes


def divergence(vectors: Tensor, likeness: Tensor, temperature: float) -> Tensor:
    """How far the student's neighbours are from the teacher's, whose cosines are ``likeness``."""
    directions = functional.normalize(vectors, dim=-1)
    itself = torch.eye(len(directions), dtype=torch.bool, device=vectors.device)
    ours, theirs = (
        (cosines / temperature).masked_fill(itself, -1e4).log_softmax(dim=-1)
        for cosines in (directions @ directions.T, likeness)
    )
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
