"""The built-in model as default_scaled.py trains it, and its states when it is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from echo_embeddings import EchoConfig, EchoEncoder, Project
from echo_embeddings.config.presets import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from echo_embeddings.engine import batching
from echo_embeddings.forward.backbone import Backbone, Batch
from echo_embeddings.forward.pooling import mean_pooling
from echo_embeddings.types import Vectors

LONGEST = 160  # content tokens
HALF = torch.bfloat16


class Adapted(nn.Module):
    """A linear layer with a LoRA product added to its weight: one product of matrices a pass, as after merging."""

    def __init__(self, linear: nn.Linear, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.weight = linear.weight
        self.down, self.up, self.scale = nn.Parameter(down.float()), nn.Parameter(up.float()), scale
        self.whole: Tensor | None = None

    def merge(self) -> None:
        """Add up the weight for the passes that come."""
        self.whole = torch.addmm(self.weight.float(), self.up, self.down, alpha=self.scale).to(self.weight.dtype)

    def forward(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.whole)


class Student:
    """The built-in model with the adapter of ``start``, the map behind it, and a head for the teacher's vectors."""

    def __init__(self, start: Path, device: str) -> None:
        preset = EchoConfig.load(start)
        self.config = preset.replace(
            lexical=None, transforms=(), query_template=None, packaged_adapter=None, max_length=LONGEST
        )
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
        groups = batching.plan(lengths, budget, 12000 if self.device == "cuda" else 300)
        return [(group, Batch.of([contents[i] for i in group], self.layout, self.device)) for group in groups]

    def states(self, batches: list[tuple[list[int], Batch]]) -> Tensor:
        """Pooled states of the texts of some batches, in the batches' order."""
        parts = []
        for layer in self.adapted.values():
            layer.merge()
        for _, batch in batches:
            parts.append(mean_pooling(self.backbone(batch), batch.pooled))
        return torch.cat(parts)

    @torch.no_grad()
    def all_states(self, contents: list[Any]) -> Tensor:
        """Pooled states of many texts, in their order; the map is not applied."""
        found = torch.empty(len(contents), len(self.weight), device=self.device)
        for start in range(0, len(contents), 4096):
            batches = self.batches(contents[start : start + 4096], 131072 if self.device == "cuda" else 4096)
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
    """Put the adapter's matrices into the layers."""
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
    return found


def states_of(folder: Path, texts: list[str], longest: int) -> Vectors:
    """Pooled states of texts, before the map, as a finished model gives them."""
    config = EchoConfig.load(folder).replace(transforms=(), max_length=longest)
    runtime, template = EchoEncoder(folder, config, on_truncate="ignore").runtime, config.templates[0]
    return runtime.states(texts, runtime.contents(texts, template, None), runtime.layout(template, None))
