"""How this process uses the machine."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from ...configs.sections import LearnerConfig

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def configure_process(threads: int) -> None:
    """Sets what makes training fast, for the whole process.

    Args:
        threads: Of PyTorch's products.
    """
    torch.set_num_threads(threads)
    # Moments that decay to denormals would make Adam 20 times slower.
    torch.set_flush_denormal(True)
    # Batches of images are freed and wanted again in each update. Kept by the process they need
    # no new pages from the kernel: a fifth less time for PPO on Pong.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # glibc has it, musl has not
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def configure_gpu(learner: LearnerConfig) -> None:
    """Sets how this process computes on a GPU; see `learner.precision`, `learner.deterministic`."""
    if learner.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if learner.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)  # an operation that cannot raises RuntimeError
