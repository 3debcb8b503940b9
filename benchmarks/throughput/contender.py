"""The interface of a contender (one way to embed texts), and this library's own contenders."""

from __future__ import annotations

import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.model.device import pick_dtype

from . import gpu
from .memory import high_water

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Embed = Callable[[list[str]], Vectors]
#: ``(number of layers, tokens of each text in those layers)``: what a configuration must process, without padding.
Runs = list[tuple[int, list[int]]]


@dataclass(frozen=True)
class Place:
    """The model, and the device that all contenders run on.

    Attributes:
        folder: of the model.
        device: ``cpu``, ``cuda`` or another name of torch's.
        shape: name of a shape in ``SHAPES`` (shapes.py), with random weights; ``None`` for the built-in model.
        kept: bytes of unused GPU memory that a contender may keep while others run.
    """

    folder: str
    device: str = "cpu"
    shape: str | None = None
    kept: float = float("inf")

    @property
    def fast(self) -> torch.dtype:
        """The fastest dtype here: bfloat16, or float32 on a processor that has no instructions for it."""
        return pick_dtype("auto", self.device)


class Contender(ABC):
    """One way to embed a list of texts.

    Attributes:
        label: its name in the tables.
        whole: it always runs every text of a mix, however slow it is, because others are compared with it.
        curves: it takes part in the curves over length and corpus size.
        tunable: the best ``batch_size`` is searched for each mix; otherwise it is left as it is.
        countable: hooks can count the operations of its linear layers.
        longest: the most tokens of a text that it uses; ``None`` if every text of the benchmark fits.
        note: a remark in the tables.
        is_cold: its cached memory was released, so it should run once before time is taken.
    """

    label = note = ""
    whole = curves = tunable = is_cold = False
    countable = True
    batch_size: int | None = None
    longest: int | None = None

    @abstractmethod
    def embed(self, texts: list[str]) -> Vectors:
        """Embed texts: unit vectors ``[n, dim]`` in main memory, in the order of the texts."""

    @abstractmethod
    def runs(self, texts: list[str]) -> Runs:
        """The tokens that must go through the layers, for each text."""

    @abstractmethod
    def reference(self) -> Embed:
        """The same configuration in float32. It is called with one text at a time, so that nothing is padded."""

    @classmethod  # noqa: B027 - most have nothing to import
    def imports(cls) -> None:
        """Import what loading will need, so that it happens while other contenders load."""

    def seconds(self, texts: list[str]) -> float:
        """The seconds that embedding takes, until a GPU has finished all of it."""
        if self.is_cold:
            self.embed(texts)
            self.is_cold = False
        gpu.wait()
        started = time.perf_counter()
        self.embed(texts)
        gpu.wait()
        return time.perf_counter() - started

    def ran(self, texts: list[str]) -> tuple[float | None, float | None]:
        """Count the operations of the linear layers for these texts, padding included, and the GPU's memory in MiB.

        Either is ``None`` if it cannot be counted.
        """
        self.is_cold = False
        gpu.reset_peak()
        if not self.countable:
            self.embed(texts)
            return None, gpu.peak()
        with _counted(self.body) as total:
            self.embed(texts)
            return total() or None, gpu.peak()

    def cosines(self, samples: list[list[str]]) -> list[float]:
        """The smallest cosine between the vectors of a batch and those of the reference, for each batch."""
        found = [self.embed(texts) for texts in samples]
        gpu.trim(0)
        reference = self.reference()
        lowest = [
            min(float(np.dot(row, reference([text])[0])) for row, text in zip(vectors, texts, strict=True))
            for vectors, texts in zip(found, samples, strict=True)
        ]
        del reference
        gc.collect()  # frees the second set of weights now; an encoder may refer to itself
        return lowest

    def high_water(self) -> float:
        """The peak memory of this process until now, in MiB."""
        return high_water()

    @property
    @abstractmethod
    def body(self) -> Any:
        """The transformers model inside, for counting what it runs."""

    def flops(self, texts: list[str]) -> tuple[float, float]:
        """The floating-point operations that the configuration needs: those of linear layers, those of attention.

        Counted are two operations for each parameter of a layer's matrices and each token that must go through the
        layer, and the two products of attention under its causal mask. The tokens include prompts and the second copy;
        with late echo the lower layers have one copy only, and layers above the exit do not run. Not counted are
        padding, embeddings, norms, rotary angles, activations, softmax, pooling, and the half of attention that the
        mask removes, although kernels may compute it.
        """
        config = self.body.config.get_text_config()
        parameters, width = _layer(config)
        # A causal mask needs half of the attention matrix; each product counts as two operations.
        pair = 4 if config.model_type == "bert" else 2
        linear = attention = 0.0
        for layers, tokens in self.runs(texts):
            linear += 2.0 * layers * parameters * sum(tokens)
            attention += float(pair) * layers * width * sum(n * n for n in tokens)
        return linear, attention


def _layer(config: Any) -> tuple[int, int]:
    """The number of parameters in the matrices of a layer, and the width of its attention, from the model's config."""
    heads, hidden = config.num_attention_heads, config.hidden_size
    head = getattr(config, "head_dim", None) or hidden // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    matrices = 2 if config.model_type == "bert" else 3  # in the feed-forward part: without and with a gate
    attention = 2 * hidden * heads * head + 2 * hidden * shared * head
    return attention + matrices * hidden * config.intermediate_size, heads * head


@contextmanager
def _counted(body: Any) -> Iterator[Callable[[], float]]:
    """Count the operations of a model's ``nn.Linear`` modules while they run, padding included.

    Hooks cost time, so this is never used while time is taken. Layers that were replaced by fused ones are not counted.
    """
    total = 0.0

    def add(module: nn.Linear, inputs: tuple[Any, ...]) -> None:
        nonlocal total
        rows = inputs[0].numel() // inputs[0].shape[-1]
        total += 2.0 * rows * module.weight.numel()

    layers = next(module for module in body.modules() if isinstance(module, nn.ModuleList))
    linear = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(add) for module in linear]
    try:
        yield lambda: total
    finally:
        for hook in hooks:
            hook.remove()


class Ours(Contender):
    """``EchoEncoder`` with its defaults, except for ``max_length``: no text of the benchmark is truncated.

    (It is 4,096 tokens, or what two copies allow.) Statistics and adapters are those of the preset. The encoder chooses
    batches, order and dtype itself, so its default is also its best. Only ``compiled=True`` is another choice; it has
    rows of its own and takes no part in the curves.
    """

    whole = True

    def __init__(self, place: Place, preset: str, label: str, *, compiled: bool = False) -> None:
        self.label = f"(e) ours: {label}{', compiled' if compiled else ''}"
        self.curves = self.countable = not compiled
        self._place, self._config = place, EchoConfig.preset(preset).replace(max_length=4096)
        self._encoder = self._load("auto", compiled=compiled)
        # On a GPU sequences stand in one row if its kernels allow it; the tables must say so if they do not.
        packs = getattr(self._encoder.runtime.backbone, "packs", False)
        self.note = "packed" if packs else "padded" if place.device.startswith("cuda") else ""

    def embed(self, texts: list[str]) -> Vectors:
        return self._encoder.encode_documents(texts)

    def runs(self, texts: list[str]) -> Runs:
        runtime, template = self._encoder.runtime, self._config.templates[0]
        layout, layers = runtime.layout(template, None), runtime.backbone.layers
        lengths = [len(content.ids) for content in runtime.contents(texts, template, None)]
        whole = (layers.exit - layers.start, [layout.total(n) for n in lengths])
        return [(layers.start, [len(layout.first_pass(n)) for n in lengths]), whole]

    def reference(self) -> Embed:
        return self._load("float32").encode_documents

    @property
    def body(self) -> Any:
        return self._encoder.runtime.backbone.model

    def _load(self, dtype: str, *, compiled: bool = False) -> EchoEncoder:
        device = self._place.device
        model = None if self._place.shape is None else self._place.folder
        return EchoEncoder(model, self._config, device, dtype=dtype, on_truncate="ignore", compiled=compiled)
