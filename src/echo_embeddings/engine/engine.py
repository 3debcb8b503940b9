"""The interface between an encoder and what runs the model: the same for one device and for several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.model.loading import load
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.layout import Ids
from echo_embeddings.text.truncation import TruncationCount
from echo_embeddings.types import Role, Vectors

from .readout import Readout
from .runtime import Runtime
from .worker_pool import WorkerPool

__all__ = ["Engine", "open_engine"]


class Engine(Protocol):
    """A model that embeds texts as a config says. ``Runtime`` does it on one device, ``WorkerPool`` on several."""

    @property
    def config(self) -> EchoConfig:
        """The config that is run."""

    @property
    def dimension(self) -> int:
        """Number of dimensions of a vector."""

    def limit(self, role: Role, instruction: str | None = None) -> int:
        """The most content tokens that are embedded of a text of this role; further tokens are truncated."""

    def tokenize(self, texts: Sequence[str], role: Role) -> list[int]:
        """Count the content tokens of each text, before truncation."""

    def embed(
        self,
        texts: Sequence[str],
        role: Role,
        instruction: str | None,
        truncation: TruncationCount,
        advance: Callable[[int], object],
        readout: Readout = "text",
        spans: Sequence[Ids] | None = None,
    ) -> Any:
        """Embed distinct texts, in their order. Transforms are applied; vectors are not yet of unit length.

        Args:
            texts: any number of texts, each of which is embedded; without duplicates, which would cost time.
            role: chooses the template.
            instruction: the task, for a template with ``{instruction}``; else ``None``.
            truncation: counts truncated texts, before the model runs on them.
            advance: called after each batch with the number of texts in it.
            readout: ``"text"`` for one vector a text, ``"tokens"`` for one a token, ``"chunks"`` for one a chunk.
            spans: for ``"chunks"``, and only then: the chunks of each text, int64 ``[n, 2]``, first and last-plus-one
                character. All of each text is read.

        Returns:
            float32 ``[n, dim]`` for ``"text"``; a list of ``TokenEmbeddings`` for ``"tokens"``; a list of float32
            ``[chunks, dim]`` for ``"chunks"``.
        """

    def unembedding(self) -> Vectors:
        """The unembedding matrix ``[vocabulary, hidden]`` of the model, float32."""

    def with_config(self, config: EchoConfig) -> Engine | None:
        """An engine for another config with the same weights; ``None`` if that config needs other layers or weights."""

    def describe(self) -> dict[str, str]:
        """Facts about how the model runs: device, dtype, and each optional speed-up with why it is on or off."""

    def close(self) -> None:
        """End worker processes, if there are any."""


def open_engine(spec: ModelSpec, config: EchoConfig, options: EncoderOptions) -> Engine:
    """Open an engine. For one device the weights are loaded now; for several, each worker loads them at the first text.

    Args:
        spec: the model.
        config: what to run.
        options: how to run it. Its ``devices`` must be checked already; with fewer than two of them, the device of
            ``spec`` is used.
    """
    if options.devices is not None and len(options.devices) > 1:
        return WorkerPool(spec, config, options)
    spec = spec.for_config(config)
    return Runtime(load(spec), config, options, spec)
