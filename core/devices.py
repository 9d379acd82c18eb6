"""Arrays on their way to the device that learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def to_device(numbers: Any, device: torch.device | str) -> Tensor:
    """An array or a tensor as a tensor on `device`; the CPU's own memory is not copied.

    Nobody waits for a GPU: what comes from the CPU goes through pinned memory.
    """
    tensor = torch.as_tensor(numbers)
    if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
