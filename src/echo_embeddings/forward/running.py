"""The pass that is running now: what our own layers and our attention need to know about its batch.

The layers of transformers are called with hidden states, masks and angles, and not every architecture hands on other
arguments. So everything else is kept in a context variable while a pass runs.
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
        last_layer: the index of the last layer that runs, if it may leave out tokens that are not pooled; else
            ``None``.
    """

    batch: Batch
    last_layer: int | None = None
    _made: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def is_packed(self) -> bool:
        """Whether the sequences share one row, and the attention kernel is told where each ends."""
        return bool(self.batch.lengths)

    @cached_property
    def pooled_from(self) -> int:
        """The first position where a sequence has a pooled token; 0 on a GPU, where attention leaves out nothing."""
        pooled = self.batch.pooled
        return int(pooled.any(dim=0).int().argmax()) if pooled.device.type == "cpu" else 0

    def once(self, value: _Value, make: Callable[[_Value], Any]) -> Any:
        """``make(value)``, computed once in a pass, because all layers get the same mask and the same angles."""
        key = id(value)
        if key not in self._made:
            # The original is kept too: if it were freed, a new tensor could get the same id.
            self._made[key] = (value, make(value))
        return self._made[key][1]


@contextmanager
def running(batch: Batch, last_layer: int | None = None) -> Iterator[None]:
    """Make ``current()`` a pass over ``batch`` while the block runs."""
    token = _current.set(RunningPass(batch, last_layer))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> RunningPass | None:
    """The pass that is running in this thread; ``None`` outside a backbone, such as when a model generates text."""
    return _current.get()
