"""Keep the weights of the decoder layers in 8 bits: half the memory of 16 bits, the same time in large batches.

Only weights are in 8 bits. With inputs in 8 bits too, matrix products are faster, but the cosine to the exact vectors
falls below 0.98. The measurements are in research/log.md.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from echo_embeddings.errors import ConfigError, ModelError

from .architecture import layers_of

__all__ = ["Int8Linear", "quantise", "require_savable"]

_HIGHEST = 127


class Int8Linear(nn.Module):
    """A linear layer for inference, whose weight is kept as int8 with a float32 scale for each output.

    Args:
        layer: its ``weight`` ``[out, in]`` is rounded; its ``bias``, ``[out]`` or ``None``, is kept as it is.
    """

    levels: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        # A row of zeros may have any scale but 0.
        scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _HIGHEST
        self.register_buffer("scale", scale)
        self.register_buffer("levels", (weight / scale[:, None]).round().to(torch.int8))
        self.bias = layer.bias

    def forward(self, states: Tensor) -> Tensor:
        """Compute ``[..., out]`` from ``[..., in]``, in the dtype of ``states``."""
        # The weight is scaled first in two cases: float16 would overflow in sums of levels, and torch's compiler (2.13)
        # fails on a product that is scaled afterwards, because it mistakes it for another pattern.
        if states.dtype == torch.float16 or torch.compiler.is_compiling():
            return linear(states, (self.levels * self.scale[:, None]).to(states.dtype), self.bias)
        # Scaled after the product, because for one short text most of the time goes into moving weights from memory.
        out = linear(states, self.levels.to(states.dtype)) * self.scale.to(states.dtype)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        """The same text as that of ``nn.Linear``."""
        out, inputs = self.levels.shape
        return f"in_features={inputs}, out_features={out}, bias={self.bias is not None}"

    def _save_to_state_dict(self, *_: Any, **__: Any) -> NoReturn:
        # transformers would load the file as a model without these weights, and fill in random ones.
        raise ConfigError(
            "weights in int8 cannot be saved: transformers could not read them back; save the encoder with "
            "dtype='auto', and load that folder with EchoEncoder(folder, dtype='int8')"
        )


@torch.no_grad()
def quantise(model: PreTrainedModel) -> None:
    """Replace the linear modules of a body's decoder layers by :class:`Int8Linear`, in place.

    Everything else (embeddings, norms, what an architecture does without ``nn.Linear``) stays as it is.

    Raises:
        ModelError: there are no linear modules, or one is offloaded. Then no module is replaced.
    """
    found = [
        (layer, name, module)
        for layer in layers_of(model)
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    ]
    if not found:
        raise ModelError(
            f"dtype='int8' cannot be used: the decoder layers of {type(model).__name__} have no nn.Linear; use 'auto'"
        )
    for _, name, module in found:
        if module.weight.is_meta:
            raise ModelError(
                f"dtype='int8' cannot be used: {name} is offloaded; choose a device_map that keeps it in memory"
            )
    while found:
        layer, name, module = found.pop()  # so its weight is freed before the next one is rounded
        layer.set_submodule(name, Int8Linear(module))


def require_savable(model: nn.Module) -> None:
    """Refuse to save a model with weights in int8, before anything is written.

    Raises:
        ConfigError: the model has such weights.
    """
    for module in model.modules():
        if isinstance(module, Int8Linear):
            module.state_dict()
