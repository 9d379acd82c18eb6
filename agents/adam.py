"""Adam on flat vectors, in place: one call of PyTorch's, or operations that a compiler fuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Parameters, first and second moments [P]; number of updates and learning rate, scalars."""
Step = Callable[[State, Tensor, float, tuple[float, float]], None]
"""Changes the state in place by a gradient, epsilon and the two decays."""


def fused_adam(state: State, grad: Tensor, eps: float, betas: tuple[float, float]) -> None:
    """Adam in place (Kingma & Ba 2015, algorithm 1): what `torch.optim` calls in the end.

    Args:
        state: Of the optimizer.
        grad: Gradient of the parameters, [P].
        eps: Added to the root of the second moment.
        betas: Decay of the two moments.
    """
    flat, mean, square, count, rate = state
    count.add_(1)
    torch.ops.aten._fused_adam_.tensor_lr(
        *([flat], [grad], [mean], [square], [], [count]),
        lr=rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def adam(state: State, grad: Tensor, eps: float, betas: tuple[float, float]) -> None:
    """`fused_adam` in operations that a compiler fuses.

    In the order of the end of section 2 (Kingma & Ba 2015), which has one division less for each
    parameter. Inductor keeps exp's result, but would raise to a power again for each parameter. In
    double, as 1 - beta**1 loses digits.
    """
    flat, mean, square, count, rate = state
    count.add_(1)
    mean.lerp_(grad, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    left = [1 - torch.exp(count.double() * math.log(beta)) for beta in betas]
    root = left[1].sqrt()
    step, eps_hat = (rate * root / left[0]).float(), (eps * root).float()
    flat.sub_(mean * step / (square.sqrt() + eps_hat))
