"""Decoder layers with fewer passes over memory between matrix products, in half precision.

In a profile of the default on a processor with tiles, matrix products took 37 % of the time, attention 24 %, and norms,
activations and angles most of the rest (research/log.md). This module saves as much of that rest as is possible without
a compiler.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from echo_embeddings.model.architecture import is_compiled, with_parts

__all__ = ["layer", "pays_on"]

#: Results of a replacement and of the original: the lowest cosine, and the highest relative difference of lengths.
_COSINE, _LENGTH = 0.9999, 0.01
_GATED = ("gate_proj", "up_proj", "down_proj")
#: One activation, by its names in torch and in transformers.
_SILU = ("SiLU", "SiLUActivation")


def pays_on(model: PreTrainedModel) -> bool:
    """Whether to use it: not in float32, where a pass must equal the model's own, and not if layers are compiled."""
    return model.device.type in ("cpu", "cuda") and model.dtype != torch.float32 and not is_compiled(model)


def layer(own: nn.Module) -> nn.Module:
    """A view of a decoder layer whose RMS norms and gated feed-forward block take fewer passes over memory.

    Parameters are shared, and the layer is not changed. Every replacement is first compared with the module that it
    replaces. It is not used if the results differ, or if it does not run on this machine.
    """
    replaced = {name: _fused_part(part) for name, part in own.named_children()}
    return with_parts(own, {name: part for name, part in replaced.items() if part is not None})


def _fused_part(part: nn.Module) -> nn.Module | None:
    kind = type(part).__name__
    candidate: nn.Module | None = None
    on_gpu = next(part.parameters(), torch.empty(0)).is_cuda
    if kind.endswith("RMSNorm") and isinstance(getattr(part, "weight", None), Tensor):
        candidate = _TorchRMSNorm(part) if on_gpu else _FusedRMSNorm(part)
    elif (
        not on_gpu
        and type(getattr(part, "act_fn", None)).__name__ in _SILU
        and all(type(getattr(part, name, None)) is nn.Linear for name in _GATED)
    ):
        candidate = _FusedMLP(part)
    return candidate if candidate is not None and _gives_the_same(candidate, part) else None


@torch.inference_mode()
def _gives_the_same(candidate: nn.Module, part: nn.Module) -> bool:
    """Whether two modules give the same for a few random states. Some are large, because activations differ there."""
    weight = next(part.parameters())
    states = torch.randn(4, weight.shape[-1], generator=torch.Generator().manual_seed(0)).to(weight)
    states[2:] *= 8
    try:
        found, wanted = candidate(states).float(), part(states).float()
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    same_direction = torch.cosine_similarity(found, wanted, dim=-1).min() >= _COSINE
    ratio = found.norm(dim=-1) / wanted.norm(dim=-1)
    return bool(same_direction and (ratio - 1).abs().max() <= _LENGTH)


class _FusedRMSNorm(nn.Module):
    """A norm that sums squares in float32, but makes no float32 copy of the states."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm
        self._eps = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)) or 0.0)

    def forward(self, hidden: Float[Tensor, "*tokens dim"]) -> Float[Tensor, "*tokens dim"]:
        if not _is_helped(hidden):
            states: Tensor = self.norm(hidden)
            return states
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        scale = length.square_().div_(hidden.shape[-1]).add_(self._eps).rsqrt_()
        scaled: Tensor = (hidden * scale.to(hidden.dtype)).mul_(self.norm.weight)
        return scaled


class _TorchRMSNorm(_FusedRMSNorm):
    """A norm that is one GPU kernel, forwards and backwards; transformers' own norms take seven kernels."""

    def forward(self, hidden: Float[Tensor, "*tokens dim"]) -> Float[Tensor, "*tokens dim"]:
        if hidden.dtype != self.norm.weight.dtype:
            states: Tensor = self.norm(hidden)
            return states
        return functional.rms_norm(hidden, self.norm.weight.shape, self.norm.weight, self._eps)


class _FusedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``: oneDNN activates and multiplies while it writes a product."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: Float[Tensor, "*tokens dim"]) -> Float[Tensor, "*tokens dim"]:
        block = self.block
        if not (_is_helped(hidden) and _is_plain(block.gate_proj) and _is_plain(block.up_proj)):
            states: Tensor = block(hidden)
            return states
        linear = torch.ops.mkldnn._linear_pointwise
        gate = linear(hidden, block.gate_proj.weight, block.gate_proj.bias, "swish", [], "")
        both = linear.binary(hidden, gate, block.up_proj.weight, block.up_proj.bias, "mul")
        down: Tensor = block.down_proj(both)
        return down


def _is_helped(hidden: Tensor) -> bool:
    """Whether to use the fused way: not with gradients, nor after a model was moved to a GPU or to float32."""
    return not torch.is_grad_enabled() and hidden.device.type == "cpu" and hidden.dtype != torch.float32


def _is_plain(linear: nn.Module) -> bool:
    """Whether the module may be bypassed: not if it has hooks, nor if an adapter has replaced it."""
    return type(linear) is nn.Linear and not linear._forward_hooks and not linear._forward_pre_hooks
