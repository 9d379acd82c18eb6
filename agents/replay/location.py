"""Where a replay lies: on the device that learns, or in the memory of the CPU."""

from __future__ import annotations

from typing import Literal

import torch

Location = Literal["auto", "cpu", "learner"]
SHARE = 0.5
"""Of a GPU's free memory that a replay may take by itself; the rest is for learning."""


def locate(wish: Location, learner: torch.device, size: float) -> torch.device:
    """The device of a replay.

    On a GPU nothing is sent for a minibatch. From the CPU minibatches are sent ahead: the GPU still
    computes the update before, while the next minibatch is gathered and goes through pinned memory.

    Args:
        wish: `learner`, `cpu`, or `auto`: the GPU that learns if there is room.
        learner: Where the agent learns.
        size: Bytes that the replay takes when it is full.
    """
    if learner.type == "cpu" or wish == "cpu":
        return torch.device("cpu")
    if wish == "auto" and size > SHARE * torch.cuda.mem_get_info(learner)[0]:
        return torch.device("cpu")
    return learner
