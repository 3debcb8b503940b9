"""Which devices an encoder may be spread over. Checked before anything is loaded, and without touching a device."""

from __future__ import annotations

from collections.abc import Sequence

from echo_embeddings.errors import ConfigError

from .spec import Source

__all__ = ["checked_devices", "is_cpu"]


def checked_devices(devices: Sequence[str], source: Source) -> tuple[str, ...]:
    """Devices that there are, for a model that can be sent to them.

    Raises:
        TypeError: it is no list of strings, or the model is already loaded.
        ConfigError: it is empty, a device is not there, or ``device`` or a ``device_map`` says otherwise.
    """
    if isinstance(devices, str) or not isinstance(devices, Sequence):
        raise TypeError(f"devices must be a list such as ['cuda:0', 'cuda:1'], not {devices!r}; one goes in as device=")
    if source.device is not None or "device_map" in source.model_kwargs:
        other = "device_map" if source.device is None else f"device={source.device!r}"
        raise ConfigError(f"devices={devices!r} and {other} both say where the model runs; leave one of them out")
    if source.is_loaded:
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
