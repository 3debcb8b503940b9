"""Which device, and in which numbers: what is asked for, checked; else the best that this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from echo_embeddings.errors import ConfigError, ModelError

from .spec import ModelSpec

if TYPE_CHECKING:
    import torch

__all__ = ["checked_devices", "is_cpu", "pick_device", "pick_dtype", "precision"]


def pick_device(device: str | None) -> str:
    """The device asked for, or the best there is.

    Raises:
        ModelError: torch knows no such device, or has none here.
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
    """``"auto"``: bfloat16 on a GPU and on processors with bf16 instructions, float32 elsewhere.

    So too for ``"int8"``: that is how weights are kept, and this what is computed in.

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
        # Without these instructions bf16 works, but slower than float32.
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16


def precision(device: str | None, dtype: Any) -> str:
    """Where a model would run and in which numbers, as ``"cpu torch.bfloat16"``; nothing is loaded.

    Vectors of one precision and of another differ by rounding, so one table must not mix them.
    """
    place = pick_device(device)
    weights = ", int8 weights" if dtype == "int8" else ""
    return f"{place} {pick_dtype(dtype, place)}{weights}"


def checked_devices(devices: Sequence[str], spec: ModelSpec) -> tuple[str, ...]:
    """Devices that there are, for a model that can be sent to them.

    Raises:
        TypeError: it is no list of strings, or the model is already loaded.
        ConfigError: it is empty, a device is not there, or ``device`` or a ``device_map`` says otherwise.
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
    """Refuse a device that this machine has not, without touching one: that would take up memory on it."""
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
    """Whether a device's name is that of the processor."""
    return device.partition(":")[0] == "cpu"
