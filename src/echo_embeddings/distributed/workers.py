"""Where the workers of a Ray job run, and the encoder that each of them has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import ConfigError, EchoError
from echo_embeddings.options import EncoderOptions
from echo_embeddings.types import require_whole

__all__ = ["FAILURES", "Workers", "WorkersEncoder", "arranged"]

#: What a model that cannot be loaded, a row or a file may raise; what else is raised is a mistake of ours.
FAILURES = (EchoError, OSError, ImportError, RuntimeError, ValueError, TypeError)

# CPUs of a worker that has no GPU: beyond that, two workers are faster than one with twice as many.
_CPUS = 4


@dataclass(frozen=True)
class Workers:
    """How many workers there are at most, and what each of them gets.

    Attributes:
        count: workers.
        cpus: CPUs of one, and threads that it computes with.
        gpus: GPUs of one.
        options: how the encoder of one runs.
    """

    count: int
    cpus: float
    gpus: float
    options: EncoderOptions


class WorkersEncoder:
    """The encoder of one worker: the weights are loaded once, where the worker runs.

    What keeps it from being loaded is raised when it is used: Ray wraps what a constructor raises beyond recognition.

    Args:
        workers: what this worker gets.
    """

    def __init__(self, workers: Workers) -> None:
        self._error: Exception | None = None
        try:
            if workers.cpus and not workers.gpus:
                _use_threads(max(1, int(workers.cpus)))
            self._encoder = EchoEncoder.from_options(workers.options)
            _ = self._encoder.dimension
        except FAILURES as error:
            self._error = error

    def get(self) -> EchoEncoder:
        """The encoder, with its weights loaded.

        Raises:
            EchoError: it cannot be loaded on this node.
        """
        if self._error is not None:
            raise self._error
        return self._encoder


def arranged(
    options: EncoderOptions | None, count: int | None, cpus: float | None, gpus: float | None, *, spare: int = 0
) -> Workers:
    """Fill in what the user left open, from the nodes that Ray has.

    Args:
        options: how each encoder runs.
        count: workers; ``None`` for as many as there is room for.
        cpus: CPUs of a worker; ``None`` for 1 beside a GPU, else 4, or as many as the smallest node has.
        gpus: GPUs of a worker; ``None`` for 1 if there are any and ``options.device`` may be one.
        spare: CPUs that are left for others, such as those who read.

    Raises:
        ConfigError: an option cannot work, or no node has room for a worker.
    """
    options = options or EncoderOptions()
    if options.devices is not None:
        raise ConfigError(f"devices={list(options.devices)!r} are of one machine; on Ray, say workers= and num_gpus=")
    _require(count, cpus, gpus)
    nodes = _nodes()
    on_gpu = (options.device or "cuda").partition(":")[0] == "cuda"
    if gpus is None:
        gpus = 1 if on_gpu and any(node[1] for node in nodes) else 0
    if not gpus and options.device is not None and on_gpu:
        raise ConfigError(f"device={options.device!r}, and no node of the cluster has a GPU; leave it out")
    if not gpus and options.device is None:
        options = options.replace(device="cpu")
    if cpus is None:
        smallest = min((node[0] for node in nodes if node[0]), default=1)
        cpus = 1 if gpus else max(1, min(_CPUS, int(smallest) - spare))
    room = _room(nodes, cpus, gpus, spare)
    if count is None and not room:
        most = max((node[0] for node in nodes), default=0), max((node[1] for node in nodes), default=0)
        raise ConfigError(
            f"no node has room for a worker with num_cpus={cpus:g} and num_gpus={gpus:g}; the most that one has are "
            f"{most[0]:g} CPUs and {most[1]:g} GPUs. Ask for less, or say workers= if nodes will come"
        )
    return Workers(count or room, cpus, gpus, options)


def _require(count: int | None, cpus: float | None, gpus: float | None) -> None:
    if count is not None:
        require_whole("workers", count, ConfigError)
    for name, value in (("num_cpus", cpus), ("num_gpus", gpus)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ConfigError(f"{name}={value!r}: give a number of at least 0")


def _nodes() -> list[tuple[float, float]]:
    """CPUs and GPUs of each node."""
    import ray

    alive: list[dict[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(float(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in alive]


def _room(nodes: list[tuple[float, float]], cpus: float, gpus: float, spare: int) -> int:
    def of(has: tuple[float, float]) -> int:
        wanted = [(have, want) for have, want in zip(has, (cpus, gpus), strict=True) if want]
        return int(min((have // want for have, want in wanted), default=1))

    most = sum(map(of, nodes))
    free = sum(node[0] for node in nodes) - most * cpus
    return most if gpus or free >= spare else max(most - 1, min(most, 1))


def _use_threads(count: int) -> None:
    import torch

    os.environ["OMP_NUM_THREADS"] = str(count)
    torch.set_num_threads(count)
