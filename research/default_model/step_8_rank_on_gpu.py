"""The last run of the default, on a GPU: the packaged adapter goes on learning from its teacher, on many more texts.

    python -m research.default_model.step_8_rank_on_gpu recipes/texts-6.jsonl recipes/sampled.jsonl --teacher FOLDER --output OUT

What it does is the loss ``rank`` of ``echo-embeddings train`` at another scale: some 60,000 tokens a step, and the map
behind the pooling learns along. A step's texts come in groups that the teacher finds near to each other; their vectors
(the whole map, and its first 320, 256 and 128 dimensions) shall rank all texts of the step as the teacher's do, and a
head shall give the teacher's vectors themselves. It ends after ``--seconds`` of training, and can be begun again from
its own output (``--start OUT``).

OUT becomes a folder that ``EchoEncoder`` loads. ``--states FILE...`` also writes the pooled states of other texts, in
float16, beside it.
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
from default_texts import texts_in
from scaled_student import Student, states_of
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from echo_embeddings import EchoConfig
from echo_embeddings.config.presets import PRESETS_FOLDER
from echo_embeddings.forward.backbone import Batch
from sentence_transformers_echo.training.ranking import divergence

LENGTHS = (512, 320, 256, 128)
TEMPERATURE, DIRECTION = 0.05, 2.0
#: Texts that are near to each other in a step, and out of how many of the nearest they are drawn.
TOGETHER, DRAWN_FROM = 16, 48
TEACHER_LONGEST = 192

#: Rows of texts in the order of their batches, and the batches, each with its texts' places in what was laid out.
Laid = tuple[Tensor, list[tuple[list[int], Batch]]]


@torch.inference_mode()
def taught(teacher: str, texts: list[str], device: str) -> Tensor:
    """The teacher's unit vectors, float16 ``[n, dim]`` on the device; tokenised ahead in threads."""
    model = SentenceTransformer(
        teacher, device=device, model_kwargs={"dtype": torch.float16 if device == "cuda" else torch.float32}
    )
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
    """The rows nearest to each, itself among them: int32 ``[n, DRAWN_FROM]``."""
    found = []
    for start in range(0, len(vectors), 2048):
        cosines = vectors[start : start + 2048] @ vectors.T
        found.append(cosines.topk(min(DRAWN_FROM, len(vectors)), dim=1).indices.int().cpu().numpy())
    return np.concatenate(found)


def steps(
    near: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any], arguments: argparse.Namespace, rng: Any
) -> Iterator[list[int]]:
    """Rows of each step, as many as have so many tokens: groups of near ones; all rows come, then all again."""
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
    """How long training goes on, and so how far it is."""

    seconds: float
    peak: float
    started: float = 0.0

    def rate(self) -> float:
        """The learning rate now: up in a fiftieth of the time, then down along a cosine."""
        done = self.done()
        return self.peak * min(done / 0.02, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.005)

    def done(self) -> float:
        return (time.time() - self.started) / self.seconds


def losses(student: Student, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How far ranks are from the teacher's, and ``1 - cosine`` of the head's vectors."""
    states, targets = student.standard(states), targets.float()
    mapped = student.map(states)
    likeness = targets @ targets.T
    lengths = [length for length in LENGTHS if length <= mapped.shape[1]]
    ranks = torch.stack([divergence(mapped[:, :length], likeness, TEMPERATURE) for length in lengths]).mean()
    return ranks, 1 - functional.cosine_similarity(student.head(states), targets, dim=1).mean()


def train(student: Student, contents: list[Any], targets: Tensor, arguments: argparse.Namespace) -> None:
    """Until the time is over; texts that come last in ``contents`` are kept out, and judged on the way."""
    learned = len(contents) - min(2000, len(contents) // 10)
    some = min(16000, learned)
    near = nearest(targets[:learned])
    student.begin(contents[:some], targets[:some])
    optimizer = _optimizer(student)
    lengths = np.array([len(content) for content in contents])
    drawn = steps(near, lengths, arguments, np.random.default_rng(arguments.seed))

    def prepare(rows: list[int]) -> Laid:
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
                student.save(arguments.output, arguments.start, EchoConfig.load(arguments.start))
    judge(student, kept_out, targets)


def learn(
    student: Student, optimizer: torch.optim.Optimizer, laid: Laid, targets: Tensor, rate: float
) -> tuple[Tensor, Tensor] | None:
    """One step; its losses, or ``None`` where memory was not enough."""
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
    if found is None:  # outside the handler, whose traceback holds tensors
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
def judge(student: Student, kept_out: Laid, targets: Tensor) -> None:
    rows, batches = kept_out
    print(f"kept out: {_said(*losses(student, student.states(batches), targets[rows]))}", flush=True)


def _said(ranks: Tensor, direction: Tensor) -> str:
    return f"rank {ranks.item():.4f} direction {direction.item():.4f}"


def read_texts(files: list[Path], rng: random.Random) -> list[str]:
    texts = list(dict.fromkeys(texts_in(*files)))
    rng.shuffle(texts)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=PRESETS_FOLDER / "default")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--tokens", type=int, default=56000, help="content tokens of a step")
    parser.add_argument("--micro", type=int, default=160000, help="padded tokens of a pass, all copies")
    parser.add_argument("--limit", type=int, help="texts that are used")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--states", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)  # it compiles a kernel for every new shape
    device, started = "cuda" if torch.cuda.is_available() else "cpu", time.time()
    texts = read_texts(arguments.texts, random.Random(arguments.seed))[: arguments.limit]  # noqa: S311
    student = Student(arguments.start, device)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(student.read, texts)
        targets = taught(arguments.teacher, texts, device)
        contents = reading.result()
    print(
        f"{len(texts)} texts, {sum(map(len, contents))} tokens, taught after {time.time() - started:.0f} s", flush=True
    )
    train(student, contents, targets, arguments)
    student.save(arguments.output, arguments.start, EchoConfig.load(arguments.start))
    for file in arguments.states:
        states = states_of(arguments.output, texts_in(file), 256)
        np.save(arguments.output / f"{file.stem}.npy", states.astype(np.float16))
    print(f"done after {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
