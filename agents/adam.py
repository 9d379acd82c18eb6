"""Adam on flat vectors, in place: one call of PyTorch's, or operations that a compiler fuses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Parameters, first and second moments [P]; number of updates and learning rate, scalars."""


def adam(state: State, grad: Tensor, eps: float, betas: tuple[float, float]) -> None:
    """Adam in place (Kingma & Ba 2015, algorithm 1): PyTorch's fused one.

    The compiler cannot take that, but fuses the same operations itself.

    Args:
        state: Of the optimizer.
        grad: Gradient of the parameters, [P].
        eps: Added to the root of the second moment.
        betas: Decay of the two moments.
    """
    flat, mean, square, count, rate = state
    count.add_(1)
    if not torch.compiler.is_dynamo_compiling():
        # What `torch.optim` calls in the end, after four times as long.
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
        return
    mean.lerp_(grad, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    # Inductor keeps exp's result, but would raise to a power again for each parameter:
    # twice the time of the whole step. In double, as 1 - beta**1 loses digits.
    left = [(1 - torch.exp(count.double() * math.log(beta))).float() for beta in betas]
    root = (square / left[1]).sqrt() + eps
    flat.sub_(mean / root * (rate / left[0]))
