"""The built-in model as step 8 trains it, and the pooled states of a finished model.

The library's training (sentence_transformers_echo.training) does the same at another scale. Here a step has some 60,000
tokens and takes half a second, so each adapter is added to its weight once a step, and not once a pass.
"""

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
from echo_embeddings.forward.backbone import Backbone
from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.pooling import mean_pooling
from echo_embeddings.types import Vectors

__all__ = ["Laid", "Student", "states_of"]

#: Content tokens of a text in training.
LONGEST = 160
#: What the model computes in on a GPU, and what the adapter is saved in.
HALF = torch.bfloat16
#: Padded tokens that a pass costs beside its own, for choosing batches: a GPU waits for the host to start kernels.
OVERHEAD = {"cuda": 12000, "cpu": 300}
#: Texts of one pass without gradient, and its padded tokens.
_AT_ONCE, _BUDGET = 4096, {"cuda": 131072, "cpu": 4096}

#: Batches, each with its texts' places in what was laid out.
Laid = list[tuple[list[int], Batch]]


class Adapted(nn.Module):
    """A linear layer whose LoRA product is added to the weight before a pass, which then has one product of matrices.

    Args:
        linear: the layer, whose weight stays as it is.
        down: ``[rank, in]``, trained in float32.
        up: ``[out, rank]``, trained in float32.
        scale: of the product of both.
    """

    def __init__(self, linear: nn.Linear, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.weight = linear.weight
        self.down, self.up, self.scale = nn.Parameter(down.float()), nn.Parameter(up.float()), scale
        self.whole: Tensor | None = None

    def merge(self) -> None:
        """Add the product to the weight, for the passes that follow."""
        self.whole = torch.addmm(self.weight.float(), self.up, self.down, alpha=self.scale).to(self.weight.dtype)

    def forward(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.whole)


class Student:
    """The built-in model with an adapter, the map behind its pooling, and a head that gives the teacher's vectors.

    Args:
        start: folder of a trained model: adapter, config, and a ``Project`` as its only transform.
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, start: Path, device: str) -> None:
        preset = EchoConfig.load(start)
        self.config = _plain(preset).replace(transforms=(), max_length=LONGEST)
        options = {"attn_implementation": "sdpa"}
        dtype = HALF if device == "cuda" else "auto"  # many processors are slow in bfloat16
        encoder = EchoEncoder(
            config=self.config, device=device, dtype=dtype, on_truncate="ignore", model_kwargs=options
        )
        self.runtime, self.device = encoder.runtime, device
        self.layout = self.runtime.layout(self.config.templates[0], None)
        body = self.runtime.backbone.model.requires_grad_(requires_grad=False)
        self.adapted = _adapt(body, start)
        self.backbone = Backbone(body, self.runtime.backbone.layers)
        (project,) = preset.transforms
        arrays = {name: torch.from_numpy(array.astype(np.float32)) for name, array in project.arrays.items()}
        self.weight, self.bias = arrays["weight"].to(device), arrays["bias"].to(device)

    def begin(self, contents: list[Any], targets: Tensor) -> None:
        """Make what follows the pooling: the map as it was, and the head as the ridge regression of ``targets``.

        Both follow a standardisation of the states, so that all dimensions learn alike.

        Args:
            contents: token ids of some texts.
            targets: the teacher's vectors for them, ``[n, dim]``.
        """
        states = self.all_states(contents)
        self.mean, self.std = states.mean(dim=0), states.std(dim=0)
        inputs = torch.cat([self.standard(states), torch.ones_like(states[:, :1])], dim=1).double()
        penalty = 0.1 * len(inputs) * torch.eye(inputs.shape[1], device=self.device, dtype=torch.double)
        solved = torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets.double())
        self.map = _linear(self.weight * self.std[:, None], self.bias + self.mean @ self.weight)
        self.head = _linear(solved[:-1].float(), solved[-1].float())

    def standard(self, states: Tensor) -> Tensor:
        """Standardise pooled states ``[n, hidden]``."""
        return (states - self.mean) / self.std

    def tokenize(self, texts: list[str]) -> list[Any]:
        """The content ids of texts, truncated to 160."""
        return [content.ids for content in self.runtime.contents(texts, self.config.templates[0], None)]

    def batches(self, contents: list[Any], budget: int) -> Laid:
        """Put texts of like length together, at most ``budget`` padded tokens, and send them to the device."""
        lengths = [self.layout.total(len(content)) for content in contents]
        groups = batching.plan(lengths, budget, OVERHEAD[self.device])
        return [(group, Batch.of([contents[i] for i in group], self.layout, self.device)) for group in groups]

    def states(self, batches: Laid) -> Tensor:
        """Compute the pooled states of the texts of some batches, in the batches' order: ``[n, hidden]``."""
        parts = []
        for layer in self.adapted.values():
            layer.merge()
        for _, batch in batches:
            parts.append(mean_pooling(self.backbone(batch), batch.pooled))
        return torch.cat(parts)

    @torch.no_grad()
    def all_states(self, contents: list[Any]) -> Tensor:
        """Compute the pooled states of many texts, in their order; the map is not applied."""
        found = torch.empty(len(contents), len(self.weight), device=self.device)
        for start in range(0, len(contents), _AT_ONCE):
            batches = self.batches(contents[start : start + _AT_ONCE], _BUDGET[self.device])
            order = torch.tensor([i for group, _ in batches for i in group], device=self.device)
            found[start + order] = self.states(batches)
        return found

    def save(self, folder: Path, start: Path) -> None:
        """Write a folder that ``EchoEncoder`` loads: the adapter, and the config of ``start`` with this map."""
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
        _plain(EchoConfig.load(start)).replace(transforms=(Project(*arrays),)).save(folder)


def _plain(config: EchoConfig) -> EchoConfig:
    """The config without words and without the name of the packaged adapter, which is trained on here."""
    return config.replace(lexical=None, query_template=None, packaged_adapter=None)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer for ``states @ weight + bias``, which is trained."""
    layer = nn.Linear(*weight.shape, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(bias)
    return layer


def _adapt(body: nn.Module, start: Path) -> dict[str, Adapted]:
    """Put the matrices of the adapter into the layers, and return the adapted layers by name."""
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
    """Compute the pooled states of texts with a finished model, before its map.

    Args:
        folder: of the model.
        texts: as documents.
        longest: content tokens to which a text is truncated.

    Returns:
        float32 ``[n, hidden]``.
    """
    config = EchoConfig.load(folder).replace(transforms=(), max_length=longest)
    runtime, template = EchoEncoder(folder, on_truncate="ignore").with_config(config).runtime, config.templates[0]
    return runtime.states(texts, runtime.contents(texts, template, None), runtime.layout(template, None))
