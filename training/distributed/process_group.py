"""How the learners of a run find each other, and the group that sums through their connections."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import ProcessGroup

_c10d: Any = distributed  # its stubs lack some of its names


def create_store(address: str, seconds: float) -> Any:
    """The store where learners leave their addresses for each other.

    It listens on a free port of `address`, and on no other address.

    Args:
        address: IP address of this machine that all learners reach.
        seconds: The longest wait for another learner.
    """
    listener = socket.create_server((address, 0))
    return _c10d.TCPStore(
        address,
        listener.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=seconds),
        master_listen_fd=listener.detach(),
    )


def join_store(address: str, port: int, seconds: float) -> Any:
    """The store that another process has created; see `create_store`."""
    return _c10d.TCPStore(address, port, timeout=timedelta(seconds=seconds))


def connect_group(
    store: Any, rank: int, count: int, address: str, device: torch.device, seconds: float
) -> ProcessGroup:
    """Connects this learner with all others: NCCL on a GPU, else gloo.

    Args:
        store: See `create_store`.
        rank: Of this learner.
        count: Of all learners.
        address: IP address of this machine that the others reach; gloo listens there alone.
        device: Where the learner's gradients are.
        seconds: The longest wait for another learner, now and in each sum.
    """
    if device.type == "cuda":
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"  # a time-out raises, instead of ending us
        nccl = _c10d.ProcessGroupNCCL
        options = nccl.Options()
        options._timeout = timedelta(seconds=seconds)
        return nccl(store, rank, count, options)
    gloo = _c10d.ProcessGroupGloo
    options = gloo._Options()
    options._timeout = timedelta(seconds=seconds)
    options._devices = [gloo.create_device(hostname=address)]
    return gloo(store, rank, count, options)
