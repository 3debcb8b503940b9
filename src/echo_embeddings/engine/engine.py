"""What turns many texts into vectors, on one device or on several: the encoder does not ask which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.model.loading import load
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.truncation import TruncationCount
from echo_embeddings.types import Role, Vectors

from .readout import Readout
from .runtime import Runtime
from .worker_pool import WorkerPool

__all__ = ["Engine", "open_engine"]


class Engine(Protocol):
    """A model and a config at work. ``Runtime`` is one on one device, ``WorkerPool`` one on several."""

    @property
    def config(self) -> EchoConfig:
        """What is run."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def limit(self, role: Role, instruction: str | None = None) -> int:
        """The most content tokens of a text of this role that are embedded."""

    def tokenize(self, texts: Sequence[str], role: Role) -> list[int]:
        """How many content tokens each text has, before any is truncated."""

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        instruction: str | None,
        truncation: TruncationCount,
        advance: Callable[[int], object],
        readout: Readout = "text",
    ) -> Any:
        """Vectors of distinct texts, in their order; transforms applied, not yet of unit length.

        Args:
            texts: any number.
            role: says which template they are laid into.
            instruction: for a template with ``{instruction}``.
            truncation: told what is truncated, before a model runs on it.
            advance: called after each batch with the number of texts in it.
            readout: what is kept of each text.

        Returns:
            float32 ``[n, dim]`` for ``"text"``; a list of ``TokenEmbeddings`` for ``"tokens"``.
        """

    def unembedding(self) -> Vectors:
        """The unembedding matrix ``[vocabulary, hidden]`` of the model, float32."""

    def with_config(self, config: EchoConfig) -> Engine | None:
        """An engine for another config that shares the weights; ``None`` if it needs other layers or weights."""

    def describe(self) -> dict[str, str]:
        """How it runs, a line a fact: device, dtype, and each faster way with the reason why it is on or off."""

    def close(self) -> None:
        """End worker processes, if there are any."""


def open_engine(spec: ModelSpec, config: EchoConfig, options: EncoderOptions) -> Engine:
    """An engine; the weights are loaded now on one device, and by each worker at its first text on several.

    Args:
        spec: the model.
        config: what to run.
        options: how to run it. Its ``devices`` are checked already; fewer than two mean the device of ``spec``.
    """
    if options.devices is not None and len(options.devices) > 1:
        return WorkerPool(spec, config, options)
    spec = spec.for_config(config)
    return Runtime(load(spec), config, options, spec)
