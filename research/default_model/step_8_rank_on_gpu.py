"""Step 8: the last run, on a GPU. The adapter of the third run learns on from its teacher, with many more texts.

    python -m research.default_model.step_8_rank_on_gpu corpus.jsonl generated.jsonl --teacher TEACHER --output run-4

This is the loss ``rank`` of ``echo-embeddings train`` at another scale: a step has some 56,000 tokens, and the map
behind the pooling is trained too. The texts of a step come in groups that the teacher finds near to each other. Their
vectors (512, 320, 256 and 128 dimensions of the map) shall rank all texts of the step as the teacher's vectors do;
beside that, a head shall give the teacher's vectors themselves.

Training starts from the model in ``--start`` (``run-3`` in run.sh) and ends after ``--seconds``, so a slower machine
takes fewer steps. It can go on from its own output. The output is a folder that ``EchoEncoder`` loads.
``--states FILE`` also writes the pooled states of other texts into it, in float16.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from echo_embeddings.config.presets import PRESETS_FOLDER
from sentence_transformers_echo.training.ranking import divergence
from sentence_transformers_echo.training.teacher import load

from .student import Laid, Student, states_of
from .texts import draw, texts_in

__all__ = ["main"]

#: The dimensions of the map that are taught to rank.
LENGTHS = (512, 320, 256, 128)
#: The temperature of the softmax over cosines, and the weight of the loss of direction beside that of ranking.
TEMPERATURE, DIRECTION = 0.05, 2.0
#: Texts in a group, and how many of the nearest texts they are drawn from.
TOGETHER, DRAWN_FROM = 16, 48
#: Tokens to which the teacher truncates a text; more than the student has.
TEACHER_LONGEST = 192

#: Rows of the texts in the order of their batches, and the batches.
Step = tuple[Tensor, Laid]


@torch.inference_mode()
def taught(teacher: str, texts: list[str], device: str) -> Tensor:
    """Embed texts with the teacher: unit vectors, float16 ``[n, dim]``, on the device.

    Unlike ``encode``, this tokenises the next batches in threads while the GPU works.
    """
    model = load(teacher).to(device, torch.float16 if device == "cuda" else torch.float32)
    model.max_seq_length = TEACHER_LONGEST
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    some = 1024 if device == "cuda" else 16
    groups = [order[i : i + some] for i in range(0, len(order), some)]
    found = torch.empty(len(texts), model.get_embedding_dimension(), dtype=torch.float16, device=device)
    with ThreadPoolExecutor(4) as pool:
        features = pool.map(lambda group: model.preprocess([texts[i] for i in group]), groups)
        for group, batch in zip(groups, features, strict=True):
            there = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            vectors = model(there)["sentence_embedding"].float()
            found[torch.tensor(group, device=device)] = functional.normalize(vectors, dim=1).half()
    return found


@torch.inference_mode()
def nearest(vectors: Tensor) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The rows that are nearest to each row, itself included: int32 ``[n, DRAWN_FROM]``."""
    found = []
    for start in range(0, len(vectors), 2048):
        cosines = vectors[start : start + 2048] @ vectors.T
        found.append(cosines.topk(min(DRAWN_FROM, len(vectors)), dim=1).indices.int().cpu().numpy())
    return np.concatenate(found)


def steps(
    near: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any], arguments: argparse.Namespace, rng: Any
) -> Iterator[list[int]]:
    """Yield the rows of each step: groups of near texts, until they have ``arguments.tokens`` tokens together.

    All rows come once before any comes again.

    Args:
        near: from :func:`nearest`.
        lengths: content tokens of each text.
        arguments: of the command; ``tokens`` may change between two steps.
        rng: numpy's random generator.
    """
    while True:
        free = np.ones(len(near), bool)
        step, size = list[int](), 0
        groups = []
        for row in rng.permutation(len(near)):
            if free[row]:
                free[row] = False
                others = near[row][free[near[row]]]
                others = rng.permutation(others)[: TOGETHER - 1]
                free[others] = False
                groups.append([int(row), *others.tolist()])
        for i in rng.permutation(len(groups)):
            step += groups[i]
            size += int(lengths[groups[i]].sum())
            if size >= arguments.tokens:
                yield step
                step, size = [], 0


@dataclass
class Budget:
    """The time of the training, and the learning rate that follows from it.

    Attributes:
        seconds: how long training goes on.
        peak: the highest learning rate.
        started: when it began.
    """

    seconds: float
    peak: float
    started: float = 0.0

    def rate(self) -> float:
        """The learning rate now: it rises in the first fiftieth of the time, then falls along a cosine."""
        done = self.done()
        return self.peak * min(done / 0.02, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.005)

    def done(self) -> float:
        """The part of the time that has passed."""
        return (time.time() - self.started) / self.seconds


def losses(student: Student, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of ranking against the teacher, and ``1 - cosine`` between the head's vectors and the teacher's."""
    states, targets = student.standard(states), targets.float()
    mapped = student.map(states)
    likeness = targets @ targets.T
    lengths = [length for length in LENGTHS if length <= mapped.shape[1]]
    ranks = torch.stack([divergence(mapped[:, :length], likeness, TEMPERATURE) for length in lengths]).mean()
    return ranks, 1 - functional.cosine_similarity(student.head(states), targets, dim=1).mean()


def train(student: Student, contents: list[Any], targets: Tensor, arguments: argparse.Namespace) -> None:
    """Train until the time is over. The last texts of ``contents`` are kept out, for measuring on the way."""
    learned = len(contents) - min(2000, len(contents) // 10)
    some = min(16000, learned)
    near = nearest(targets[:learned])
    student.begin(contents[:some], targets[:some])
    optimizer = _optimizer(student)
    lengths = np.array([len(content) for content in contents])
    drawn = steps(near, lengths, arguments, np.random.default_rng(arguments.seed))

    def prepare(rows: list[int]) -> Step:
        batches = student.batches([contents[i] for i in rows], arguments.micro)
        order = torch.tensor([rows[i] for group, _ in batches for i in group])
        return order.to(student.device), batches

    kept_out = prepare(list(range(learned, len(contents))))
    budget, seen, step = Budget(arguments.seconds, arguments.rate, time.time()), 0, 0
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: prepare(next(drawn)))
        while budget.done() < 1:
            laid, coming = coming.result(), pool.submit(lambda: prepare(next(drawn)))
            found = learn(student, optimizer, laid, targets, budget.rate())
            if found is None:
                arguments.tokens = int(0.7 * arguments.tokens)
                print(f"out of memory: {arguments.tokens} tokens a step from now on", flush=True)
                continue
            step, seen = step + 1, seen + len(laid[0])
            if step <= 3 or step % 25 == 0:
                rate = seen / (time.time() - budget.started)
                print(f"{step} {budget.done():.3f} {_said(*found)} {rate:.0f} texts/s", flush=True)
            if step % 200 == 0:
                judge(student, kept_out, targets)
                student.save(arguments.output, arguments.start)
    judge(student, kept_out, targets)


def learn(
    student: Student, optimizer: torch.optim.Optimizer, laid: Step, targets: Tensor, rate: float
) -> tuple[Tensor, Tensor] | None:
    """Take one step and return its losses; ``None`` if memory was not enough."""
    rows, batches = laid
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    optimizer.zero_grad(set_to_none=True)
    try:
        ranks, direction = losses(student, student.states(batches), targets[rows])
        (ranks + DIRECTION * direction).backward()
    except torch.OutOfMemoryError:
        found = None
    else:
        found = ranks.detach(), direction.detach()
    if found is None:  # outside the handler: inside it, the traceback still holds tensors
        torch.cuda.empty_cache()
        return None
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return found


def _optimizer(student: Student) -> torch.optim.Optimizer:
    lora = [part for layer in student.adapted.values() for part in (layer.down, layer.up)]
    rest = [*student.map.parameters(), *student.head.parameters()]
    groups = [{"params": lora, "share": 1.0}, {"params": rest, "share": 0.2}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=student.device == "cuda")


@torch.no_grad()
def judge(student: Student, kept_out: Step, targets: Tensor) -> None:
    """Print the losses on the texts that are kept out."""
    rows, batches = kept_out
    print(f"kept out: {_said(*losses(student, student.states(batches), targets[rows]))}", flush=True)


def _said(ranks: Tensor, direction: Tensor) -> str:
    return f"rank {ranks.item():.4f} direction {direction.item():.4f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+", help="files of texts")
    parser.add_argument("--teacher", required=True, help="hub id, folder, or package:name/folder")
    parser.add_argument("--output", type=Path, required=True, help="folder that is written")
    parser.add_argument(
        "--start", type=Path, default=PRESETS_FOLDER / "default", help="trained model to go on from (the shipped one)"
    )
    parser.add_argument("--seconds", type=float, default=540, help="of training, without the teacher's part (540)")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate (1e-3)")
    parser.add_argument("--tokens", type=int, default=56000, help="content tokens of a step (56000)")
    parser.add_argument("--micro", type=int, default=160000, help="padded tokens of a pass, all copies (160000)")
    parser.add_argument("--limit", type=int, help="texts that are used (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of order and draws (0)")
    parser.add_argument("--states", type=Path, nargs="*", default=[], help="files of texts for pooled states")
    arguments = parser.parse_args(argv)
    torch.manual_seed(arguments.seed)
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)  # it compiles a kernel for every new shape
    device, started = "cuda" if torch.cuda.is_available() else "cpu", time.time()
    texts = draw(dict.fromkeys(texts_in(*arguments.texts)), arguments.limit, random.Random(arguments.seed))  # noqa: S311
    student = Student(arguments.start, device)
    with ThreadPoolExecutor(1) as pool:
        tokenizing = pool.submit(student.tokenize, texts)
        targets = taught(arguments.teacher, texts, device)
        contents = tokenizing.result()
    print(
        f"{len(texts)} texts, {sum(map(len, contents))} tokens, taught after {time.time() - started:.0f} s", flush=True
    )
    train(student, contents, targets, arguments)
    student.save(arguments.output, arguments.start)
    for file in arguments.states:
        states = states_of(arguments.output, texts_in(file), 256)
        np.save(arguments.output / f"{file.stem}.npy", states.astype(np.float16))
    print(f"done after {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
