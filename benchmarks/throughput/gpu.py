"""What a benchmark must do on a GPU: wait for work that goes on after a call has returned, and share its memory.

In a process that has not used a GPU the functions here do nothing, so callers need not ask.
"""

from __future__ import annotations

import os

import torch

#: Dense bfloat16 operations a second in NVIDIA's datasheets, by a part of the card's name in torch.
DATASHEET = {"H200": 989e12, "H100 80GB HBM3": 989e12, "GH200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12}
#: The share of a GPU's memory that all idle contenders together may keep; the rest is for the one that runs.
_KEPT = 0.5


def in_use() -> bool:
    """Whether this process has used a GPU."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def wait() -> None:
    """Wait until the GPU has done everything that was started."""
    if in_use():
        torch.cuda.synchronize()


def exact_float32() -> None:
    """Switch TF32 off in this process and those that it starts. Off is torch's default, which some images change."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def kept(device: str, contenders: int) -> float:
    """Bytes of cached, unused GPU memory that each of ``contenders`` processes may keep between its turns."""
    if not device.startswith("cuda"):
        return float("inf")
    return _KEPT * torch.cuda.get_device_properties(device).total_memory / max(contenders, 1)


def trim(most: float) -> bool:
    """Release the cached memory if it is more than ``most`` bytes; return whether it was released."""
    if not in_use() or torch.cuda.memory_reserved() - torch.cuda.memory_allocated() <= most:
        return False
    torch.cuda.empty_cache()
    return True


def reset_peak() -> None:
    """Let :func:`peak` count from now on."""
    if in_use():
        torch.cuda.reset_peak_memory_stats()


def peak() -> float | None:
    """The most memory that torch has allocated, in MiB; weights are included, the CUDA context (about 500) is not."""
    return torch.cuda.max_memory_allocated() / 2**20 if in_use() else None


def about(device: str) -> dict[str, float | str | None]:
    """Describe a GPU for the report; empty for a processor."""
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
    """Dense bfloat16 operations a second that the maker states for a card; ``None`` if it is not in the list."""
    return next((rate for part, rate in DATASHEET.items() if part in name), None)
