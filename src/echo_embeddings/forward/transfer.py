"""To a GPU and back without waiting for it: from and to pinned memory, data travels while the host goes on."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Arriving", "sent"]


def sent(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """An array as a tensor on ``device``; on its way there, where that is a GPU."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Arriving:
    """A tensor on its way back to the host. What its device is given to do afterwards does not delay it.

    Args:
        tensor: on any device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: Any = None
        if not tensor.is_cuda:
            self._tensor = tensor.cpu()
            return
        self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._tensor.copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record(torch.cuda.current_stream(tensor.device))

    def numpy(self) -> NDArray[Any]:
        """Its values; waits for them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        values: NDArray[Any] = self._tensor.numpy()
        return values
