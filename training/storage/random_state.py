"""The process's global random generators: dropout draws from torch's, user code from any."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def state_dict() -> dict[str, Any]:
    """The states of the global generators of Python, NumPy and torch, CUDA devices included."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def load_state_dict(state: dict[str, Any]) -> None:
    """Sets the generators; states of CUDA devices that are not here are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)


@contextmanager
def kept() -> Iterator[None]:
    """Leaves the generators as they are, whatever is drawn inside."""
    state = state_dict()
    try:
        yield
    finally:
        load_state_dict(state)
