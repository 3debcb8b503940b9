"""What differs on a GPU: work that goes on after a call has returned, and memory that processes must share.

Everything here does nothing in a process that has not used a GPU, so callers need not ask.
"""

from __future__ import annotations

import os

import torch

#: Dense bf16 operations a second by NVIDIA's datasheets, by a part of the name that torch gives the card.
DATASHEET = {"H200": 989e12, "H100 80GB HBM3": 989e12, "GH200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12}
#: The share of a GPU's memory that idle contenders may keep, all together; the rest is for the one that runs.
_KEPT = 0.5


def in_use() -> bool:
    """Whether this process has used a GPU."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def wait() -> None:
    """Until everything that was started has ended."""
    if in_use():
        torch.cuda.synchronize()


def exact_float32() -> None:
    """No TF32, here and in processes that are started from here; torch's default, which some images turn over."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def kept(device: str, contenders: int) -> float:
    """Bytes of cached, unused memory that each of so many contenders may keep between its turns."""
    if not device.startswith("cuda"):
        return float("inf")
    return _KEPT * torch.cuda.get_device_properties(device).total_memory / max(contenders, 1)


def trim(most: float) -> bool:
    """Give cached memory back if there is more than ``most`` bytes of it; whether it was."""
    if not in_use() or torch.cuda.memory_reserved() - torch.cuda.memory_allocated() <= most:
        return False
    torch.cuda.empty_cache()
    return True


def reset_peak() -> None:
    """Begin anew with :func:`peak`."""
    if in_use():
        torch.cuda.reset_peak_memory_stats()


def peak() -> float | None:
    """MiB that torch had allocated at most, weights included, the CUDA context (about 500) not."""
    return torch.cuda.max_memory_allocated() / 2**20 if in_use() else None


def about(device: str) -> dict[str, float | str | None]:
    """What a report says of a GPU; nothing of a processor."""
    if not device.startswith("cuda"):
        return {}
    name = torch.cuda.get_device_name(device)
    return {
        "gpu_memory": torch.cuda.get_device_properties(device).total_memory / 2**30,
        "cuda": torch.version.cuda,
        "datasheet": datasheet(name),
        "float32_precision": torch.get_float32_matmul_precision(),
    }


def datasheet(name: str) -> float | None:
    """Dense bf16 operations a second that the card's maker states; ``None`` of a card that is not listed."""
    return next((rate for part, rate in DATASHEET.items() if part in name), None)
