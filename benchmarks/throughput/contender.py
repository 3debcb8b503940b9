"""What the benchmark needs to know of each contender, and this library's own entries."""

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
from echo_embeddings.model.loading import pick_dtype

from . import gpu
from .memory import high_water

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Embed = Callable[[list[str]], Vectors]
#: ``(layers, tokens of each text in those layers)``: what a configuration has to run, without any padding.
Runs = list[tuple[int, list[int]]]


@dataclass(frozen=True)
class Place:
    """Where the model lies, and the device that all contenders run on.

    Attributes:
        shape: of random weights (shapes.py); ``None`` for the built-in model.
        kept: bytes of unused GPU memory that a contender may keep while others run.
    """

    folder: str
    device: str = "cpu"
    shape: str | None = None
    kept: float = float("inf")

    @property
    def fast(self) -> torch.dtype:
        """What is fastest here: bfloat16, or float32 on a processor without instructions for it."""
        return pick_dtype("auto", self.device)


class Contender(ABC):
    """One way to embed a list of texts.

    Attributes:
        label: what the tables say.
        whole: always runs every text of a mix, however slow: bars are measured against it.
        curves: takes part in the curves of length and corpus size.
        tunable: ``batch_size`` is searched in each mix; otherwise it is left as it is.
        countable: what its linear layers run can be counted by hooks.
        longest: tokens of a text that it reads at most; ``None`` where every text of the benchmark fits.
        note: what the tables say beside it.
        is_cold: its memory was given back, so that it should run once before the clock does.
    """

    label = note = ""
    whole = curves = tunable = is_cold = False
    countable = True
    batch_size: int | None = None
    longest: int | None = None

    @abstractmethod
    def embed(self, texts: list[str]) -> Vectors:
        """Vectors ``[n, dim]`` of unit length on the host, in order."""

    @abstractmethod
    def runs(self, texts: list[str]) -> Runs:
        """The tokens that have to go through the layers."""

    @abstractmethod
    def reference(self) -> Embed:
        """The same configuration in float32; called with one text at a time, so nothing is padded."""

    @classmethod  # noqa: B027 - most need nothing
    def imports(cls) -> None:
        """Import what loading needs, so that this is done while others load."""

    def seconds(self, texts: list[str]) -> float:
        """What embedding takes, until a GPU has done it all."""
        if self.is_cold:
            self.embed(texts)
            self.is_cold = False
        gpu.wait()
        started = time.perf_counter()
        self.embed(texts)
        gpu.wait()
        return time.perf_counter() - started

    def ran(self, texts: list[str]) -> tuple[float | None, float | None]:
        """Operations that the linear layers run for these texts, padding included, and MiB of the GPU's memory.

        Either is ``None`` where there is nothing to be counted.
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
        """The smallest cosine of a batch's vectors to those of the reference, for each of several batches."""
        found = [self.embed(texts) for texts in samples]
        gpu.trim(0)
        reference = self.reference()
        lowest = [
            min(float(np.dot(row, reference([text])[0])) for row, text in zip(vectors, texts, strict=True))
            for vectors, texts in zip(found, samples, strict=True)
        ]
        del reference
        gc.collect()  # a second set of weights is a burden, and encoders may hold themselves
        return lowest

    def high_water(self) -> float:
        """MiB of memory of this process at most until now."""
        return high_water()

    @property
    @abstractmethod
    def body(self) -> Any:
        """The transformers model inside, to count what really runs."""

    def flops(self, texts: list[str]) -> tuple[float, float]:
        """Floating-point operations that the configuration needs: linear layers, attention.

        Counted: two for each parameter of the decoder layers' matrices and each token that has to go through the layer
        (prompts and the second copy among them; late echo's lower layers have one copy, and layers above its exit do
        not run), and the two products of attention under its causal mask. Not counted: padding, embeddings, norms,
        rotary angles, activations, softmax, pooling, and masked-out halves of attention, though kernels may run them.
        """
        config = self.body.config.get_text_config()
        parameters, width = _layer(config)
        # Under a causal mask half of the attention matrix is needed; a product counts two operations.
        pair = 4 if config.model_type == "bert" else 2
        linear = attention = 0.0
        for layers, tokens in self.runs(texts):
            linear += 2.0 * layers * parameters * sum(tokens)
            attention += float(pair) * layers * width * sum(n * n for n in tokens)
        return linear, attention


def _layer(config: Any) -> tuple[int, int]:
    """Parameters of a layer's matrices, and the width of its attention, from the shapes in its config."""
    heads, hidden = config.num_attention_heads, config.hidden_size
    head = getattr(config, "head_dim", None) or hidden // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    matrices = 2 if config.model_type == "bert" else 3  # of the feed-forward part: plain, or gated
    attention = 2 * hidden * heads * head + 2 * hidden * shared * head
    return attention + matrices * hidden * config.intermediate_size, heads * head


@contextmanager
def _counted(body: Any) -> Iterator[Callable[[], float]]:
    """Count the operations of a model's ``nn.Linear`` modules while they run, padding included.

    Hooks cost time, so this is never on while the clock runs. Nothing is counted for layers that were fused away.
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
    """``EchoEncoder`` as it comes, but for ``max_length``: no text is cut (4,096 tokens, or what two copies allow).

    Its statistics and adapters are those of the preset; batches, order and dtype are its own choice, so this is its
    default and its best at once, but for ``compiled=True``, which has rows of its own and is left out of the curves.
    """

    whole = True

    def __init__(self, place: Place, preset: str, label: str, *, compiled: bool = False) -> None:
        self.label = f"(e) ours: {label}{', compiled' if compiled else ''}"
        self.curves = self.countable = not compiled
        self._place, self._config = place, EchoConfig.preset(preset).replace(max_length=4096)
        self._encoder = self._load("auto", compiled=compiled)
        # Where a GPU's kernels allow it sequences stand in one row; if that failed on this machine, tables must say so.
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
