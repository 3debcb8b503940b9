"""The last run of the default, on a GPU: the packaged adapter goes on learning from its teacher, on many more texts.

    python scripts/default_scaled.py recipes/texts-6.jsonl recipes/sampled.jsonl --teacher FOLDER --output OUT

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
import json
import math
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from echo_embeddings import EchoConfig, EchoEncoder, Project, batching
from echo_embeddings.backbone import Backbone, Batch
from echo_embeddings.packaged import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PRESETS_FOLDER
from sentence_transformers_echo.training.ranking import divergence

LENGTHS = (512, 320, 256, 128)
TEMPERATURE, DIRECTION = 0.05, 2.0
#: Texts that are near to each other in a step, and out of how many of the nearest they are drawn.
TOGETHER, DRAWN_FROM = 16, 48
LONGEST, TEACHER_LONGEST = 160, 192
HALF = torch.bfloat16


class Adapted(nn.Module):
    """A linear layer with a LoRA product added to its weight: one product of matrices a pass, as after merging."""

    def __init__(self, linear: nn.Linear, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.weight = linear.weight
        self.down, self.up, self.scale = nn.Parameter(down.float()), nn.Parameter(up.float()), scale

    def forward(self, states: Tensor) -> Tensor:
        weight = torch.addmm(self.weight.float(), self.up, self.down, alpha=self.scale)
        return functional.linear(states, weight.to(states.dtype))


class Norm(nn.Module):
    """The model's RMS norm as one kernel, forwards and backwards."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, states: Tensor) -> Tensor:
        return functional.rms_norm(states, self.weight.shape, self.weight, self.eps)


class Student:
    """The built-in model with the adapter of ``start``, the map behind it, and a head for the teacher's vectors."""

    def __init__(self, start: Path, device: str) -> None:
        preset = EchoConfig.load(start)
        self.config = preset.replace(lexical=None, transforms=(), query_template=None, packaged_adapter=None)
        self.config = self.config.replace(max_length=LONGEST)
        options = {"attn_implementation": "sdpa"}
        encoder = EchoEncoder(config=self.config, device=device, dtype=HALF, on_truncate="ignore", model_kwargs=options)
        self.runtime, self.device = encoder.runtime, device
        self.layout = self.runtime.layout(self.config.templates[0], None)
        body = self.runtime.backbone.model.requires_grad_(requires_grad=False)
        self.adapted = _adapt(body, start)
        self.backbone = Backbone(body, self.runtime.backbone.layers)
        (project,) = preset.transforms
        arrays = {name: torch.from_numpy(array.astype(np.float32)) for name, array in project.arrays.items()}
        self.weight, self.bias = arrays["weight"].to(device), arrays["bias"].to(device)

    def begin(self, contents: list[Any], targets: Tensor) -> None:
        """What follows the pooling: the map, as it was, and the head, at a ridge regression of the teacher's vectors.

        Both are behind one standardisation of some texts' states, so that all dimensions learn alike.
        """
        states = self.all_states(contents)
        self.mean, self.std = states.mean(dim=0), states.std(dim=0)
        inputs = torch.cat([self.standard(states), torch.ones_like(states[:, :1])], dim=1).double()
        penalty = 0.1 * len(inputs) * torch.eye(inputs.shape[1], device=self.device, dtype=torch.double)
        solved = torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets.double())
        self.map = _linear(self.weight * self.std[:, None], self.bias + self.mean @ self.weight)
        self.head = _linear(solved[:-1].float(), solved[-1].float())

    def standard(self, states: Tensor) -> Tensor:
        return (states - self.mean) / self.std

    def read(self, texts: list[str]) -> list[Any]:
        """Token ids of texts."""
        return [content.ids for content in self.runtime.contents(texts, self.config.templates[0], None)]

    def batches(self, contents: list[Any], budget: int) -> list[tuple[list[int], Batch]]:
        """Texts of like length together, laid out and on their way to the device."""
        lengths = [self.layout.total(len(content)) for content in contents]
        groups = batching.plan(lengths, budget, budget / 12)
        laid = [(group, Batch.of([contents[i] for i in group], self.layout, "cpu")) for group in groups]
        return [(group, _moved(batch, self.device)) for group, batch in laid]

    def states(self, batches: list[tuple[list[int], Batch]]) -> Tensor:
        """Pooled states of the texts of some batches, in the batches' order."""
        parts = []
        for _, batch in batches:
            hidden = self.backbone(batch).float()
            mask = batch.pooled[..., None].float()
            parts.append((hidden * mask).sum(dim=1) / mask.sum(dim=1))
        return torch.cat(parts)

    @torch.no_grad()
    def all_states(self, contents: list[Any]) -> Tensor:
        """Pooled states of many texts, in their order; the map is not applied."""
        found = torch.empty(len(contents), len(self.weight), device=self.device)
        for start in range(0, len(contents), 4096):
            batches = self.batches(contents[start : start + 4096], 65536 if self.device == "cuda" else 4096)
            order = torch.tensor([i for group, _ in batches for i in group], device=self.device)
            found[start + order] = self.states(batches)
        return found

    def save(self, folder: Path, start: Path, preset: EchoConfig) -> None:
        """As an adapter's folder, float16 as shipped; the config has the map and no words."""
        folder.mkdir(parents=True, exist_ok=True)
        named = {}
        for name, layer in self.adapted.items():
            named[f"base_model.model.{name}.lora_A.weight"] = layer.down.detach().to(HALF).cpu().contiguous()
            named[f"base_model.model.{name}.lora_B.weight"] = layer.up.detach().to(HALF).cpu().contiguous()
        save_file(named, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        if start != folder:
            shutil.copy(start / ADAPTER_CONFIG, folder / ADAPTER_CONFIG)
        weight = self.map.weight.detach().T / self.std[:, None]
        arrays = [part.cpu().numpy() for part in (weight, self.map.bias.detach() - self.mean @ weight)]
        preset.replace(
            lexical=None,
            query_template=None,
            transforms=(Project(*arrays),),
            packaged_adapter=None,
        ).save(folder)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """``states @ weight + bias``, to be trained."""
    layer = nn.Linear(*weight.shape, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(bias)
    return layer


def _adapt(body: nn.Module, start: Path) -> dict[str, Adapted]:
    """Put the adapter's matrices into the layers, and norms of one kernel."""
    tensors = load_file(start / ADAPTER_WEIGHTS)
    settings = json.loads((start / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    scale = settings["lora_alpha"] / settings["r"]
    found = {}
    for name, part in list(body.named_modules()):
        owner = body.get_submodule(name.rpartition(".")[0])
        key, attribute = f"base_model.model.{name}.lora_", name.rpartition(".")[2]
        if f"{key}A.weight" in tensors:
            place = part.weight.device
            pair = (tensors[f"{key}{side}.weight"].to(place) for side in "AB")
            found[name] = Adapted(part, *pair, scale)
            setattr(owner, attribute, found[name])
        elif type(part).__name__.endswith("RMSNorm"):
            setattr(owner, attribute, Norm(part))
    return found


def _moved(batch: Batch, device: str) -> Batch:
    if device == "cpu":
        return batch
    parts = (batch.ids, batch.pooled, batch.first_pass, batch.expansion)
    return Batch(*(part.pin_memory().to(device, non_blocking=True) for part in parts))


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
    kept_out = min(2000, len(contents) // 10)
    learned = len(contents) - kept_out
    started = time.time()
    near = nearest(targets[:learned])
    print(f"neighbours after {time.time() - started:.0f} s", flush=True)
    student.begin(contents[: min(16000, learned)], targets[: min(16000, learned)])
    lora = [part for layer in student.adapted.values() for part in (layer.down, layer.up)]
    rest = [*student.map.parameters(), *student.head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": lora}, {"params": rest, "slow": True}],
        lr=0.0,
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=student.device == "cuda",
    )
    lengths = np.array([len(content) for content in contents])
    rng = np.random.default_rng(arguments.seed)
    drawn = steps(near, lengths, arguments, rng)
    micro = arguments.micro

    def prepare() -> tuple[Tensor, list[tuple[list[int], Batch]]]:
        rows = next(drawn)
        batches = student.batches([contents[i] for i in rows], micro)
        order = torch.tensor([rows[i] for group, _ in batches for i in group])
        return order.to(student.device), batches

    held = student.batches(contents[learned:], micro)
    held_rows = torch.tensor([learned + i for group, _ in held for i in group], device=student.device)
    budget = Budget(arguments.seconds, arguments.rate, time.time())
    seen, sums, step = 0, np.zeros(2), 0
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(prepare)
        while budget.done() < 1:
            (rows, batches), coming = coming.result(), pool.submit(prepare)
            for group in optimizer.param_groups:
                group["lr"] = budget.rate() * (0.2 if "slow" in group else 1)
            optimizer.zero_grad(set_to_none=True)
            try:
                ranks, direction = losses(student, student.states(batches), targets[rows])
                (ranks + DIRECTION * direction).backward()
            except torch.OutOfMemoryError:
                fits = False
            else:
                fits = True
            if not fits:  # outside the handler, whose traceback holds tensors
                arguments.tokens = int(0.7 * arguments.tokens)
                print(f"out of memory: {arguments.tokens} tokens a step from now on", flush=True)
                torch.cuda.empty_cache()
                continue
            nn.utils.clip_grad_norm_(lora, 1.0)
            optimizer.step()
            step, seen = step + 1, seen + len(rows)
            if step <= 3 or step % 25 == 0:
                sums = np.array([ranks.item(), direction.item()])
                rate = seen / (time.time() - budget.started)
                print(
                    f"{step} {budget.done():.3f} rank {sums[0]:.4f} direction {sums[1]:.4f} {rate:.0f} texts/s",
                    flush=True,
                )
            if step % 200 == 0:
                _judge(student, held, targets[held_rows])
                student.save(arguments.output, arguments.start, EchoConfig.load(arguments.start))
        coming.result()
    _judge(student, held, targets[held_rows])
    if student.device == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most", flush=True)


@torch.no_grad()
def _judge(student: Student, held: list[tuple[list[int], Batch]], targets: Tensor) -> None:
    ranks, direction = losses(student, student.states(held), targets)
    print(f"kept out: rank {ranks.item():.4f} direction {direction.item():.4f}", flush=True)


def read_texts(files: list[Path], rng: random.Random) -> list[str]:
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines))
    rng.shuffle(texts)
    return texts


def write_states(folder: Path, file: Path, device: str) -> None:
    """Pooled states of a file's texts as the finished model gives them, before the map: float16, beside it."""
    config = EchoConfig.load(folder).replace(max_length=256, transforms=())
    encoder = EchoEncoder(folder, config, device, on_truncate="ignore")
    texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    runtime, template = encoder.runtime, config.templates[0]
    contents = runtime.contents(texts, template, None)
    states = runtime.states(texts, contents, runtime.layout(template, None))
    np.save(folder / f"{file.stem}.npy", states.astype(np.float16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=PRESETS_FOLDER / "default")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--tokens", type=int, default=56000, help="content tokens of a step")
    parser.add_argument("--micro", type=int, default=32768, help="padded tokens of a pass, all copies")
    parser.add_argument("--limit", type=int, help="texts that are used")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--states", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
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
        write_states(arguments.output, file, device)
    print(f"done after {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
