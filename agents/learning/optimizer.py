"""The optimizer: the one place where gradients are computed and weights change.

All trained parameters are views of one vector, `flat`; gradients and moments are vectors of the
same length. So clipping, weight decay and the step are a dozen operations, whatever the network.
Where parts of the vector have moments of another age or another learning rate, each of them is
stepped by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .data_parallel import Replicas
from .penalty import NO_PENALTY, Penalty
from .terms import Terms
from .update_rules import RULES, Rule, fused_adam
from .vector import Treatment, Vector

Loss = Callable[[Any], tuple[Tensor, Terms]]
"""From a minibatch to the scalar that a step reduces, and the terms to report."""
Veto = Callable[[Terms], bool]
"""From the terms of a loss to whether its step is forbidden."""


class Group(NamedTuple):
    """A stretch of the vector whose parameters are treated alike, see `Treatment`."""

    begin: int
    end: int
    stage: int
    factor: float


class Optimizer(Vector):
    """Steps of the parameters that require a gradient, with a limit of the gradient's norm.

    A loss may read other modules as well. Only `trained` changes, and only `trained` is in train
    mode while the loss is computed. See `Vector` for parameters that are frozen for a while; when
    they thaw, they have fresh moments, and the bias correction counts from there.

    Args:
        trained: The module. Its parameters become views of one vector, so it is moved to its device
            before.
        learning_rate: Size of the steps; `rate.fill_` changes it between updates.
        rule: How a gradient changes the parameters, see `update_rules`.
        max_grad_norm: Limit of the gradient's global L2 norm; None for no limit.
        eps: Keeps the rule from dividing by zero.
        betas: How much of the first and second moment stays in each step.
        weight_decay: Decoupled (as in AdamW), on the parameters `decayed` only.
        penalty: L1 and L2 as terms of the loss, of the parameters `decayed` only.
        decayed: Parameters that decay, normally the weight matrices of layers.
        followers: Called after each step: what follows weights that have changed.
        replicas: The learners that share each minibatch and whose gradients are summed; see
            `data_parallel` for what a loss must be then. None: there is one learner.
    """

    def __init__(
        self,
        trained: nn.Module,
        *,
        learning_rate: float,
        rule: Rule = "adam",
        max_grad_norm: float | None = None,
        eps: float = 1e-8,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        penalty: Penalty = NO_PENALTY,
        decayed: Iterable[Tensor] = (),
        followers: Iterable[Callable[[], None]] = (),
        replicas: Replicas | None = None,
    ) -> None:
        super().__init__(trained, penalty, decayed, followers)
        self.rule: Rule = rule
        self.max_grad_norm = max_grad_norm
        self.eps = eps
        self.betas = betas
        self.weight_decay = weight_decay
        self.replicas = replicas
        self.mean, self.square = self.flat.new_zeros(0), self.flat.new_zeros(0)
        self.count = torch.tensor(0.0, device=self.flat.device)
        self.begun = self.count.new_zeros(1)  # what `count` was when each stage began
        self.rate = torch.tensor(learning_rate, device=self.flat.device)
        self.fused = True  # Adam as one call; a compiler wants its operations
        self._renew()

    def arrange(self, treatments: Mapping[Tensor, Treatment]) -> None:
        """See `Vector.arrange`."""
        super().arrange(treatments)
        self._renew()

    def reach(self, stage: int) -> None:
        """See `Vector.reach`; what is new has fresh moments."""
        super().reach(stage)
        before = self.begun[: stage + 1]
        self.begun = torch.cat((before, self.count.expand(stage + 1 - len(before))))
        self._renew()

    def _renew(self) -> None:
        """Fits moments, decays and groups to the parameters that are trained now."""
        fresh = torch.full_like(self.flat, float(self.rule == "rmsprop"))
        kept = min(len(self.mean), len(fresh))
        self.square = torch.cat((self.square[:kept], fresh[kept:]))
        self.mean = torch.cat((self.mean[:kept], torch.zeros_like(fresh[kept:])))
        treated = [(p, self.treatments[p]) for p in self.parameters]
        self.decays = [self.weight_decay * self.treatments[p].factor for p in self.decayed]
        self.groups: list[Group] = []  # none: the vector is one
        begin = 0
        for (stage, factor), members in groupby(treated, key=lambda pair: pair[1]):
            end = begin + sum(parameter.numel() for parameter, _ in members)
            self.groups.append(Group(begin, end, stage or 0, factor))
            begin = end
        if all((stage, factor) == Treatment() for _, _, stage, factor in self.groups):
            self.groups = []

    def step(self, loss: Loss, batch: Any, veto: Veto | None = None) -> Terms:
        """Takes one step that reduces the loss of a minibatch.

        Args:
            loss: From the minibatch to a scalar and terms without gradient.
            batch: The minibatch.
            veto: Forbids the step if it returns True for these terms; None: nothing does.

        Returns:
            The terms and, if the step was taken, `grad_norm`, the gradient's norm before the clip.
        """
        self.set_train_mode(True)
        try:
            value, terms = loss(batch)
        finally:
            self.set_train_mode(False)
        if self.parameters:
            grads = torch.autograd.grad(value, self.parameters, materialize_grads=True)
            grad = torch.cat([part.reshape(-1) for part in grads])
        else:
            grad = torch.zeros_like(self.flat)
        if self.replicas is not None:
            grad = self.replicas.sum(grad)
        if veto is not None and veto(terms):
            return terms
        return terms | {"grad_norm": self._apply(grad)}

    @torch.no_grad()
    def _apply(self, grad: Tensor) -> Tensor:
        """Clips, decays and steps in place; returns the gradient's norm before the clip."""
        if self.penalised is not None:
            grad = grad + self.penalty.gradient(self.flat, self.penalised)
        norm = torch.linalg.vector_norm(grad)
        if self.max_grad_norm is not None:
            grad = grad * (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        if self.weight_decay:
            for parameter, decay in zip(self.decayed, self.decays, strict=True):
                parameter.mul_(1 - self.rate * decay)
        self._move(grad)
        self.follow()
        return norm

    def _move(self, grad: Tensor) -> None:
        """Steps by the rule, each group by itself if there are several."""
        step = fused_adam if self.fused and self.rule == "adam" else RULES[self.rule]
        vectors = self.flat, self.mean, self.square
        if not self.groups:
            step((*vectors, self.count, self.rate), grad, self.eps, self.betas)
            return
        for begin, end, stage, factor in self.groups:
            own, mean, square = (vector[begin:end] for vector in vectors)
            state = own, mean, square, self.count - self.begun[stage], self.rate * factor
            step(state, grad[begin:end], self.eps, self.betas)
        self.count.add_(1)

    @torch.no_grad()
    def penalties(self) -> Terms:
        """See `Vector.penalties`; with `weight_decay`, half the sum of w^2 over what decays."""
        squares = [weight.square().sum() for weight in self.decayed if self.weight_decay]
        own = {"weight_decay": 0.5 * torch.stack(squares).sum()} if squares else {}
        return super().penalties() | own

    def forget(self) -> None:
        """Resets the moments and the count, because the weights were replaced."""
        self.mean.zero_()
        self.square.fill_(float(self.rule == "rmsprop"))
        self.count.zero_()
        self.begun.zero_()
        self.follow()

    def tensors(self, prefix: str = "") -> Terms:
        """Each parameter as `weights/NAME`, and its mean gradient as `gradients/NAME`.

        NAME begins with the prefix.

        The mean is the first moment, over about ten updates: a compiled update does not show each
        gradient.
        """
        return {
            f"{kind}/{prefix}{name}": part
            for kind, vector in (("weights", self.flat), ("gradients", self.mean))
            for name, part in zip(self.names, self.split(vector), strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """Moments and the number of updates; the weights belong to the module."""
        state = {"count": self.count, "mean": self.mean, "square": self.square}
        return state | ({"begun": self.begun} if self.stage else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood, after `reach` of the same stage."""
        self.count.copy_(state["count"])
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        if self.stage:
            self.begun.copy_(state["begun"])
