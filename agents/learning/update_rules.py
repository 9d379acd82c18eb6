"""How a gradient changes the parameters: Adam, RAdam and RMSprop, in place on flat vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["adam", "radam", "rmsprop"]
State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Parameters, first and second moments [P]; number of updates and learning rate, scalars."""
Step = Callable[[State, Tensor, float, tuple[float, float]], None]
"""Changes the state in place by a gradient [P], epsilon and the decays of the two moments."""


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
    parameter.
    """
    flat, mean, square, count, rate = state
    _follow(state, grad, betas)
    left = _left(count, betas)
    root = left[1].sqrt()
    step, eps_hat = (rate * root / left[0]).float(), (eps * root).float()
    flat.sub_(mean * step / (square.sqrt() + eps_hat))


def radam(state: State, grad: Tensor, eps: float, betas: tuple[float, float]) -> None:
    """Rectified Adam in place (Liu et al. 2020, algorithm 2), as `torch.optim.RAdam`.

    The first updates, while the second moment is known from too few gradients, follow the first
    moment alone. Later ones are Adam's, shorter by a factor that rises to 1.
    """
    flat, mean, square, count, rate = state
    _follow(state, grad, betas)
    left = _left(count, betas)
    longest = 2 / (1 - betas[1]) - 1  # length of the second moment's average, in gradients
    length = longest - 2 * count * (1 - left[1]) / left[1]
    factor = (length - 4) * (length - 2) / length * (longest / (longest - 4) / (longest - 2))
    step, rectified = rate / left[0], (factor * left[1]).sqrt()  # not a number where not used
    adaptive = rectified.float() / (square.sqrt() + eps)
    flat.sub_(mean * step.float() * torch.where(length > 5, adaptive, 1.0))


def rmsprop(state: State, grad: Tensor, eps: float, betas: tuple[float, float]) -> None:
    """RMSprop in place (Tieleman & Hinton 2012), as TensorFlow's: epsilon is inside the root.

    The second moment begins at 1. The step does not use the first one, which is there to be drawn.
    Stable-Baselines3 has the same as `RMSpropTFLike`.
    """
    flat, _, square, _, rate = state
    _follow(state, grad, betas)
    flat.sub_(rate * grad / (square + eps).sqrt())


RULES: dict[Rule, Step] = {"adam": adam, "radam": radam, "rmsprop": rmsprop}


def _follow(state: State, grad: Tensor, betas: tuple[float, float]) -> None:
    """Counts the update, and moves both moments towards the gradient and its square."""
    _, mean, square, count, _ = state
    count.add_(1)
    mean.lerp_(grad, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])


def _left(count: Tensor, betas: tuple[float, float]) -> list[Tensor]:
    """1 - beta**count for both moments, by which the bias correction divides them.

    Inductor keeps the result of exp, but would compute a power again for each parameter. In double,
    because 1 - beta**1 loses digits.
    """
    return [1 - torch.exp(count.double() * math.log(beta)) for beta in betas]
