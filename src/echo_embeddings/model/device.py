"""Choose the device and the dtype of a model: what the user asks for, else the best that this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from echo_embeddings.errors import ConfigError, ModelError

from .spec import ModelSpec

if TYPE_CHECKING:
    import torch

__all__ = ["checked_devices", "computed_in", "is_cpu", "pick_device", "pick_dtype"]


def pick_device(device: str | None) -> str:
    """Check the device that the user asks for; ``None`` takes the best one: ``"cuda"``, ``"mps"`` or ``"cpu"``.

    Raises:
        ModelError: torch does not know the device, or this machine does not have it.
    """
    import torch

    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"device={device!r} cannot be used: {reason}; leave it out to take the best") from error
        return str(torch.device(device))
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(dtype: Any, device: str) -> torch.dtype:
    """Choose the dtype that a model computes in.

    Args:
        dtype: a torch dtype or its name, or ``"auto"``: bfloat16 on GPUs (float16 on CUDA GPUs without it) and on
            processors with bf16 instructions, float32 elsewhere. ``"int8"`` does the same, because only the weights
            are kept in 8 bits.
        device: the name of the device.

    Raises:
        ModelError: ``dtype`` is no floating-point dtype.
    """
    import torch

    if dtype not in ("auto", "int8"):
        chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
            raise ModelError(f"dtype={dtype!r} is unknown; use 'auto', 'float32', 'bfloat16', 'float16' or 'int8'")
        return chosen
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        # Without these instructions bfloat16 works, but is slower than float32.
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16


def computed_in(device: str | None, dtype: Any) -> str:
    """The device and the dtype that a model would run with, such as ``"cpu torch.bfloat16"``. No model is loaded.

    Vectors that are computed in different ones differ by rounding, so one table must not mix them.
    """
    place = pick_device(device)
    weights = ", int8 weights" if dtype == "int8" else ""
    return f"{place} {pick_dtype(dtype, place)}{weights}"


def checked_devices(devices: Sequence[str], spec: ModelSpec) -> tuple[str, ...]:
    """Check that a model can run on several devices.

    Args:
        devices: names of devices, such as ``["cuda:0", "cuda:1"]``.
        spec: the model.

    Raises:
        TypeError: ``devices`` is no list of strings, or the model is already loaded.
        ConfigError: ``devices`` is empty, this machine does not have one of them, or the spec has a ``device`` or a
            ``device_map`` too.
    """
    if isinstance(devices, str) or not isinstance(devices, Sequence):
        raise TypeError(f"devices must be a list such as ['cuda:0', 'cuda:1'], not {devices!r}; one goes in as device=")
    if spec.device is not None or "device_map" in spec.model_kwargs:
        other = "device_map" if spec.device is None else f"device={spec.device!r}"
        raise ConfigError(f"devices={devices!r} and {other} both say where the model runs; leave one of them out")
    if spec.is_loaded:
        raise TypeError(
            f"devices={devices!r} loads the model once for each, and cannot do so with a loaded one; use its name, or "
            "save it and use EchoEncoder(folder, devices=...)"
        )
    if not devices:
        raise ConfigError("devices=[] names no device; give ['cuda:0', 'cuda:1'], say, or leave it out for the best")
    for position, device in enumerate(devices):
        if not isinstance(device, str):
            raise TypeError(f"devices[{position}] is {type(device).__name__} ({device!r:.40}), not a string")
        _require_there(f"devices[{position}]={device!r}", device)
    return tuple(devices)


def _require_there(what: str, name: str) -> None:
    """Refuse a device that this machine does not have, without using it: that would take memory on it."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{what} is unknown: {reason}; use 'cpu', 'mps', or 'cuda:0' and up") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigError(f"{what} is not there: torch finds {count} CUDA device(s) on this machine")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{what} is not there: torch finds no Apple GPU on this machine")


def is_cpu(device: str) -> bool:
    """Whether a device name means the processor: ``"cpu"`` or ``"cpu:0"``."""
    return device.partition(":")[0] == "cpu"
