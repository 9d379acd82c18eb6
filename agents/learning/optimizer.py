"""The optimizer: the one place where gradients are computed and weights change.

All trained parameters are views of one vector, `flat`; gradients and moments are vectors of the
same length. So clipping, weight decay and the step are a dozen operations, whatever the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .data_parallel import Peers
from .penalty import NO_PENALTY, Penalty
from .terms import Terms
from .update_rules import RULES, Rule, State, fused_adam

Loss = Callable[[Any], tuple[Tensor, Terms]]
"""From a minibatch to the scalar that a step reduces, and the terms to report."""
Veto = Callable[[Terms], bool]
"""From the terms of a loss to whether its step is forbidden."""


class Optimizer:
    """Steps of the parameters that require a gradient, with a limit of the gradient's norm.

    A loss may read other modules as well. Only `trained` changes, and only `trained` is in train
    mode while the loss is computed.

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
        peers: The learners that share each minibatch and whose gradients are summed; see
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
        peers: Peers | None = None,
    ) -> None:
        named = {name: p for name, p in trained.named_parameters() if p.requires_grad}
        self.trained = trained
        self.rule: Rule = rule
        self.max_grad_norm = max_grad_norm
        self.eps = eps
        self.betas = betas
        self.weight_decay = weight_decay
        self.penalty = penalty
        self.peers = peers
        self.names = list(named)
        self.parameters: list[Tensor] = list(named.values())
        self.decayed: list[Tensor] = [p for p in decayed if p.requires_grad]
        self.flat = flatten(list(named.values()))
        self.penalised = penalty.marks(self.parameters, self.decayed)
        self.mean = torch.zeros_like(self.flat)
        self.square = torch.full_like(self.flat, float(rule == "rmsprop"))
        self.count = torch.tensor(0.0, device=self.flat.device)
        self.rate = torch.tensor(learning_rate, device=self.flat.device)
        self.fused = True  # Adam as one call; a compiler wants its operations

    def step(self, loss: Loss, batch: Any, veto: Veto | None = None) -> Terms:
        """Takes one step that reduces the loss of a minibatch.

        Args:
            loss: From the minibatch to a scalar and terms without gradient.
            batch: The minibatch.
            veto: Forbids the step if it returns True for these terms; None: nothing does.

        Returns:
            The terms and, if the step was taken, `grad_norm`, the gradient's norm before the clip.
        """
        self.trained.train()
        try:
            value, terms = loss(batch)
        finally:
            self.trained.eval()
        grads = torch.autograd.grad(value, self.parameters, materialize_grads=True)
        grad = torch.cat([part.reshape(-1) for part in grads])
        if self.peers is not None:
            grad = self.peers.sum(grad)
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
            for parameter in self.decayed:
                parameter.mul_(1 - self.rate * self.weight_decay)
        state: State = self.flat, self.mean, self.square, self.count, self.rate
        step = fused_adam if self.fused and self.rule == "adam" else RULES[self.rule]
        step(state, grad, self.eps, self.betas)
        return norm

    @torch.no_grad()
    def penalties(self) -> Terms:
        """Of the present weights `l1` and `l2`, see `Penalty.sums`; none without a penalty."""
        if self.penalised is None:
            return {}
        return self.penalty.sums(self.flat, self.penalised)

    def tensors(self) -> Terms:
        """Each parameter as `weights/NAME`, and its mean gradient as `gradients/NAME`.

        The mean is the first moment, over about ten updates: a compiled update does not show each
        gradient.
        """
        sizes = [parameter.numel() for parameter in self.parameters]
        return {
            f"{kind}/{name}": part.view(parameter.shape)
            for kind, vector in (("weights", self.flat), ("gradients", self.mean))
            for name, parameter, part in zip(
                self.names, self.parameters, vector.split(sizes), strict=True
            )
        }

    def state_dict(self) -> dict[str, Any]:
        """Moments and the number of updates; the weights belong to the module."""
        return {"count": self.count, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        self.count.copy_(state["count"])
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])


def flatten(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Makes parameters views of one new vector [P], which it returns."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    parts = flat.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    return flat
