"""The pooled states after every layer, from one pass: what an encoder would give that ends at each of these layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from echo_embeddings.model.architecture import final_norm_of, layers_of

from .backbone import Backbone
from .batch import Batch
from .running import current

__all__ = ["every_exit"]


@contextmanager
def every_exit(backbone: Backbone, pool: Callable[[Tensor, Batch], Tensor]) -> Iterator[Callable[[Any, Any], Tensor]]:
    """Keep the pooled states after each layer while the block runs.

    Args:
        backbone: it runs all layers of the model, with the speed-ups ``fused_layers`` and ``last_layer`` off: the first
            replaces the layers whose results are kept, the second leaves out tokens.
        pool: from the states of a batch, ``[batch, tokens, dim]``, to float32 ``[batch, dim]``.

    Yields:
        A function to call after a pass, in place of ``pool``: float32 ``[batch, exits, dim]`` on the host. The exits
        are ``start_layer + 1`` to the last layer, without the final norm, and then the last layer with it.
    """
    kept: list[Tensor] = []
    layers = layers_of(backbone.model)[backbone.layers.start :]
    norm = final_norm_of(backbone.model)

    def keep(layer: Any, _: Any, output: Any) -> None:
        if (now := current()) is None:
            return
        if layer is layers[0]:
            kept.clear()  # of a pass whose states nobody took, such as one that measures the best batch size
        states = output[0] if isinstance(output, tuple) else output
        kept.append(pool(states, now.batch).cpu())
        if layer is layers[-1]:
            kept.append(pool(norm(states), now.batch).cpu())

    def take(_: Any, __: Any) -> Tensor:
        return torch.stack(kept, dim=1)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield take
    finally:
        for handle in handles:
            handle.remove()
