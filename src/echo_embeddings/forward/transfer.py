"""Copy data to a GPU and back without waiting: with pinned memory, the host goes on while the copy runs."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Arriving", "sent"]


def sent(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """Copy an array to a tensor on ``device``. On a CUDA GPU the copy may still be running on return."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Arriving:
    """A tensor that is being copied to the host. Work that its device gets afterwards does not delay the copy.

    Args:
        tensor: the tensor to copy, on any device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: Any = None
        if not tensor.is_cuda:
            self._tensor = tensor.cpu()
            return
        self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._tensor.copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types here
        self._arrived.record(torch.cuda.current_stream(tensor.device))

    def numpy(self) -> NDArray[Any]:
        """Wait for the copy, and return the values."""
        if self._arrived is not None:
            self._arrived.synchronize()
        values: NDArray[Any] = self._tensor.numpy()
        return values
