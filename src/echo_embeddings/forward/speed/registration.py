"""Make an attention of ours known to transformers, here and in every process that a model with it is sent to.

transformers keeps attentions by name, in a table of each process. A pickled model carries only the name. So the name
that we give it is a string that, when it is unpickled, enters its attention into the table of that process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

__all__ = ["RegisteredName", "register"]


class RegisteredName(str):
    """The name of an attention in transformers' tables. Unpickling it registers that attention.

    Attributes:
        attention: the function that attends. Pickle finds it by its module and name, so it stands in a module.
        mask: the function that makes its masks, likewise.
    """

    attention: Callable[..., Any]
    mask: Callable[..., Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return register, (str(self), self.attention, self.mask)


def register(name: str, attention: Callable[..., Any], mask: Callable[..., Any]) -> RegisteredName:
    """Register an attention and its masks with transformers in this process.

    Returns:
        The name for ``model.set_attn_implementation``.
    """
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)
    registered = RegisteredName(name)
    registered.attention, registered.mask = attention, mask
    return registered
