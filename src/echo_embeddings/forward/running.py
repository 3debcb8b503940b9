"""The pass that is running: what our own layers and attention need to know of its batch.

Layers of transformers are called with hidden states, masks and angles, and not every architecture hands other
arguments on. So the rest stands in a context variable while a pass runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from .batch import Batch

__all__ = ["RunningPass", "current", "running"]

_Value = TypeVar("_Value")
_current: ContextVar[RunningPass | None] = ContextVar("echo_embeddings_running_pass", default=None)


@dataclass
class RunningPass:
    """One pass of a model over one batch.

    Attributes:
        batch: the sequences.
        last_layer: the index of the last layer that runs, if its work on tokens that are not pooled may be left out;
            else ``None``.
    """

    batch: Batch
    last_layer: int | None = None
    _made: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def is_packed(self) -> bool:
        """Whether the sequences stand in one row, and the attention kernel is told where each ends."""
        return bool(self.batch.lengths)

    @cached_property
    def pooled_from(self) -> int:
        """The first place at which a sequence has a pooled token; 0 on a GPU, where attention is not ours."""
        pooled = self.batch.pooled
        return int(pooled.any(dim=0).int().argmax()) if pooled.device.type == "cpu" else 0

    def once(self, value: _Value, make: Callable[[_Value], Any]) -> Any:
        """``make(value)``, computed once a pass: all layers are given the same mask and the same angles."""
        key = id(value)
        if key not in self._made:
            # The original is kept beside the result so that its id cannot be given to another tensor.
            self._made[key] = (value, make(value))
        return self._made[key][1]


@contextmanager
def running(batch: Batch, last_layer: int | None = None) -> Iterator[None]:
    """While the block runs, ``current()`` is a pass over ``batch``."""
    token = _current.set(RunningPass(batch, last_layer))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> RunningPass | None:
    """The pass that is running in this thread; ``None`` where a model runs by itself, to generate text for example."""
    return _current.get()
