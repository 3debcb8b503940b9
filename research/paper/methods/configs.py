"""The methods that the library has: each is a config, most of them a preset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from echo_embeddings import EchoConfig
from echo_embeddings.engine.readout import pooled_state
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.forward.batch import Batch
from echo_embeddings.types import Role

from .method import Embedded, Method, Subject

__all__ = ["Config"]

#: Passes that are kept: over documents, over queries, and over texts to fit on.
_MOST = 3
_POOLINGS = ("mean", "weighted_mean", "last", "mean_and_last")


@dataclass(frozen=True)
class Config(Method):
    """A method that is an ``EchoConfig`` without transforms; methods that differ in pooling share one pass.

    Args:
        config: what to run.
    """

    config: EchoConfig

    def embed(self, subject: Subject, texts: Sequence[str], role: Role) -> Embedded:
        runtime = subject.encoder(self.config).runtime
        template = self.config.template_for(role)
        contents, layout = runtime.contents(texts, template, None), runtime.layout(template)
        layers = runtime.backbone.layers
        cost = sum(
            layers.start * len(layout.first_pass(n)) + (layers.exit - layers.start) * layout.total(n)
            for n in (len(content.ids) for content in contents)
        )
        states, seconds = _once(runtime, self.config, texts, role)
        return Embedded(states[:, _POOLINGS.index(self.config.pooling)], cost, seconds)

    @property
    def settings(self) -> str:
        return self.config.fingerprint()

    @property
    def is_config(self) -> bool:
        return True

    def ends_with_norm(self, depth: int) -> bool:
        return self.config.layers(depth).final_norm


_kept: dict[str, tuple[np.ndarray, float]] = {}


def _once(runtime: Runtime, config: EchoConfig, texts: Sequence[str], role: Role) -> tuple[np.ndarray, float]:
    """States in all poolings ``[n, poolings, dim]``, and the seconds they took; kept for the next method."""
    key = f"{id(runtime.backbone)} {config.replace(pooling='mean').fingerprint()} {role} {texts!r}"
    if key not in _kept:
        while len(_kept) >= _MOST:
            _kept.pop(next(iter(_kept)))
        started = time.process_time()
        states = _states(runtime, texts, role)
        _kept[key] = states, time.process_time() - started
    return _kept[key]


def _states(runtime: Runtime, texts: Sequence[str], role: Role) -> np.ndarray:
    template = runtime.config.template_for(role)
    contents, layout = runtime.contents(texts, template, None), runtime.layout(template)
    takes = [pooled_state(pooling) for pooling in _POOLINGS]

    def take(hidden: Tensor, batch: Batch) -> Tensor:
        return torch.stack([one(hidden, batch) for one in takes], dim=1)

    states = np.empty((len(texts), len(takes), runtime.backbone.dimension), np.float32)
    for group, rows in runtime._passes(contents, layout, take):  # noqa: SLF001 - all poolings of one pass
        states[group] = rows.numpy()
    return states
