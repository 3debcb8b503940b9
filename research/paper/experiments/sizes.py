"""Memory and time for models of 1, 7 and 70 billion parameters, planned on paper and checked with random weights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import AutoModel, LlamaConfig

from research.paper.report import Section, Table
from research.paper.study import Study

NAME, NEEDS_DATA = "sizes", False
GPU_GB, RATE = 80.0, 300e12
#: How many layers are made with random weights, and how many tokens they run. Each takes about 0.25 to 0.9 GB.
LAYERS, TOKENS = 2, 256
CHECKED = ("1B", "7B")
PASSAGES, PASSAGE_TOKENS = 100_000, 200


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder with gated feed-forward layers and grouped keys and values."""

    like: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int

    @property
    def layer(self) -> int:
        """Parameters of a layer: four matrices of attention, three of the feed-forward part, two norms."""
        key_values = self.hidden // self.heads * self.key_value_heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * key_values
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def body(self) -> int:
        """Parameters of the model without its head: embeddings, layers, the last norm."""
        return self.vocabulary * self.hidden + self.layers * self.layer + self.hidden

    def config(self, layers: int, vocabulary: int) -> LlamaConfig:
        """The shape for transformers, with another number of layers and tokens."""
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
        )


SHAPES = {
    "1B": Shape("Llama-3.2-1B", 2048, 16, 32, 8, 8192, 128_256),
    "7B": Shape("Mistral-7B", 4096, 32, 32, 8, 14_336, 32_000),
    "70B": Shape("Llama-3-70B", 8192, 80, 64, 8, 28_672, 128_256),
}
#: Layer-tokens in units of one classical pass: late echo from 0.6 to 0.8 runs 0.8 + 0.2 of them.
COSTS = {"classical": 1.0, "echo": 2.0, "late echo": 1.0}


def run(study: Study) -> Section:
    """Plan, check, and say what was found."""
    checks = {
        name: study.once(
            NAME,
            {"shape": asdict(SHAPES[name]), "layers": LAYERS, "tokens": TOKENS},
            lambda name=name: checked(SHAPES[name]),
        )
        for name in CHECKED
    }
    splits = {
        name: study.once(NAME, {"shape": asdict(shape), "gpu": GPU_GB}, lambda shape=shape: split(shape))
        for name, shape in SHAPES.items()
    }
    plan = Table(
        "Planned: weights in bf16 and int8 (layers in 8 bits, embeddings in 16), the GPUs of "
        f'{GPU_GB:.0f} GB that `device_map="auto"` spreads bf16 weights over with a fifth left free, and minutes for '
        f"{PASSAGES:,} passages of {PASSAGE_TOKENS} tokens at {RATE / 1e12:.0f} TFLOP/s, somewhat less than the shape "
        "of Mistral-7B reaches on an H200 (docs/bench/h200/mistral-7b.md).",
        ["shape", "like", "parameters, billion", "bf16, GB", "int8, GB", "GPUs", *(f"{name}, min" for name in COSTS)],
        [
            [
                name,
                shape.like,
                f"{shape.body / 1e9:.2f}",
                shape.body * 2 / 1e9,
                _int8(shape),
                str(splits[name]["devices"]),
                *_minutes(shape),
            ]
            for name, shape in SHAPES.items()
        ],
    )
    made = Table(
        f"Checked with random weights: {LAYERS} layers of each shape in float32 on this machine, {TOKENS} tokens.",
        ["shape", "planned, MB", "made, MB", "ms a token and layer", "GFLOP/s"],
        [[name, *_check(SHAPES[name], found)] for name, found in checks.items()],
    )
    return Section(NAME, "Larger models", _findings(checks, splits), [plan, made])


def checked(shape: Shape) -> dict[str, float]:
    """Bytes of the layers of a shape, and seconds of a pass through them."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        model = AutoModel.from_config(shape.config(LAYERS, 32)).eval()
        ids = torch.randint(0, 32, (1, TOKENS))
        seconds = []
        for _ in range(3):
            started = time.process_time()
            model(input_ids=ids, use_cache=False)
            seconds.append(time.process_time() - started)
    layers = sum(one.numel() * one.element_size() for layer in model.layers for one in layer.parameters())
    return {"bytes": layers, "seconds": min(seconds)}


def split(shape: Shape) -> dict[str, Any]:
    """How accelerate would spread the bf16 weights of a shape over GPUs; nothing is allocated for it."""
    from accelerate import infer_auto_device_map, init_empty_weights

    with init_empty_weights():
        model = AutoModel.from_config(shape.config(shape.layers, shape.vocabulary), dtype=torch.bfloat16)
    room = dict.fromkeys(range(8), int(0.8 * GPU_GB * 1e9))
    found = infer_auto_device_map(model, max_memory=room, no_split_module_classes=["LlamaDecoderLayer"])
    parameters = sum(one.numel() for one in model.parameters())
    return {"devices": len(set(found.values())), "parameters": parameters}


def _int8(shape: Shape) -> float:
    return (shape.layers * shape.layer + 2 * shape.vocabulary * shape.hidden) / 1e9


def _minutes(shape: Shape) -> list[float]:
    once = 2 * shape.layers * shape.layer * PASSAGES * PASSAGE_TOKENS / RATE / 60
    return [once * cost for cost in COSTS.values()]


def _check(shape: Shape, found: Mapping[str, float]) -> list[float]:
    operations = 2 * shape.layer * LAYERS * TOKENS
    return [
        4 * LAYERS * shape.layer / 1e6,
        found["bytes"] / 1e6,
        1000 * found["seconds"] / LAYERS / TOKENS,
        operations / found["seconds"] / 1e9,
    ]


def _findings(checks: Mapping[str, Any], splits: Mapping[str, Any]) -> list[str]:
    exact = all(found["bytes"] == 4 * LAYERS * SHAPES[name].layer for name, found in checks.items())
    whole = all(found["parameters"] == SHAPES[name].body for name, found in splits.items())
    small, large = (checks[name]["seconds"] for name in CHECKED)
    planned = SHAPES[CHECKED[1]].layer / SHAPES[CHECKED[0]].layer
    limits = (
        "No model of these sizes could be had here, so nothing is said about their quality: what holds on the models "
        "of this report may not hold on them."
    )
    memory = (
        "The memory of weights "
        + ("is exactly as planned" if exact and whole else "is NOT as planned: the formula is wrong")
        + ", for layers that were made and for all of each model as accelerate counts it. "
        f"A layer of {CHECKED[1]} was planned to take {planned:.1f} times as long as one of {CHECKED[0]}, and took "
        f"{large / small:.1f} times."
    )
    needs = ", ".join(
        f"{found['devices']} GPU{'s' * (found['devices'] > 1)} of {GPU_GB:.0f} GB for {name}"
        for name, found in splits.items()
    )
    spread_out = f'`EchoEncoder(model, model_kwargs={{"device_map": "auto"}})` needs {needs}, with weights in bf16.'
    return [limits, memory, spread_out]
