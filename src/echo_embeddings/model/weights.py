"""Weights from files, by transformers, one model at a time."""

from __future__ import annotations

from typing import Any

from echo_embeddings.forking import ForkLock

__all__ = ["from_pretrained"]

_one_at_a_time = ForkLock("was loading weights", innermost=True)


def from_pretrained(auto: Any, name: Any, **kwargs: Any) -> Any:
    """Call ``auto.from_pretrained`` while no other thread does.

    While it makes a model, transformers puts empty functions in place of some of its own (``tie_weights``) and of
    torch's, and puts back what stood there before. Of two threads that do so at once, the second finds the empty
    function and leaves it there. From then on no model of the process has its weights tied (seen with 5.17).

    Args:
        auto: one of transformers' ``Auto`` classes for models.
        name: a folder or a hub id.
        **kwargs: what that class takes.

    Returns:
        What that class returns.
    """
    with _one_at_a_time:
        return auto.from_pretrained(name, **kwargs)
