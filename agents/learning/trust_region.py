"""Steps along the natural gradient, as far as a divergence allows.

"Trust region policy optimization" by Schulman et al. (2015), appendix C. With g the gradient of the
objective and F the second derivatives of the divergence from where the step begins, the direction x
solves (F + damping) x = g by conjugate gradients, which need products F v only. The longest step is
sqrt(2 limit / (x (F + damping) x)) x: there the divergence's quadratic approximation is the limit.
It is shortened until the divergence itself is within the limit and the objective has grown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .data_parallel import Replicas
from .penalty import NO_PENALTY, Penalty
from .terms import Terms
from .vector import Vector

Look = Callable[[Any], tuple[Tensor, Tensor, Any]]
"""Evaluates the present parameters. It takes the reference (None at the start of the step) and
returns the objective, the divergence from the reference, and the reference for further calls.
Objective and divergence are sums over steps, as a loss of `Optimizer` is."""


class TrustRegion(Vector):
    """Increases an objective of some parameters within a limit of the divergence.

    Args:
        trained: The module, on its device. Its parameters become views of one vector.
        limit: Of the divergence, in nats.
        damping: Added to the diagonal of F.
        iterations: Most steps of the conjugate gradients.
        shrinking: Factor of each further attempt's length.
        attempts: Most lengths that are tried; after them the parameters stay as they are.
        penalty: L1 and L2 of the parameters `decayed`, subtracted from the objective.
        decayed: See `Optimizer`.
        followers: See `Optimizer`.
        replicas: The learners that share each minibatch, see `data_parallel`; None: there is one.
    """

    def __init__(
        self,
        trained: nn.Module,
        *,
        limit: float,
        damping: float,
        iterations: int,
        shrinking: float,
        attempts: int,
        penalty: Penalty = NO_PENALTY,
        decayed: Iterable[Tensor] = (),
        followers: Iterable[Callable[[], None]] = (),
        replicas: Replicas | None = None,
    ) -> None:
        super().__init__(trained, penalty, decayed, followers)
        self.limit, self.damping, self.iterations = limit, damping, iterations
        self.shrinking, self.attempts = shrinking, attempts
        self.replicas = replicas

    def step(self, look: Look) -> tuple[Terms, Any]:
        """Takes one step; `look` has the same random numbers each time.

        Returns:
            Scalars: the `objective` and the `divergence` after the step; `length`, the share of the
            longest step that was taken, 0 if none was good; and `grad_norm` of the objective. Then
            what `look` gave at the start.
        """
        self.set_train_mode(True)
        try:
            objective, divergence, start = look(None)
            gradient = self._sum(self.gradient(objective))
            if self.penalised is not None:
                gradient = gradient - self.penalty.gradient(self.flat, self.penalised)
            slope = self.gradient(divergence, create_graph=True)

            def product(vector: Tensor) -> Tensor:
                return self._sum(self.gradient(slope @ vector)) + self.damping * vector

            direction = conjugate_gradient(product, gradient, self.iterations)
            curvature = direction @ product(direction)
            longest = direction * (2 * self.limit / curvature).sqrt()
            found = torch.stack((objective.detach(), torch.zeros_like(curvature)))
            if curvature > 0:
                found, length = self._search(look, start, longest, self._sum(found))
            else:
                found, length = self._sum(found), 0.0
        finally:
            self.set_train_mode(False)
        self.follow()
        norm = torch.linalg.vector_norm(gradient)
        terms = {"objective": found[0], "divergence": found[1], "grad_norm": norm}
        return terms | {"length": torch.full_like(norm, length)}, start

    @torch.no_grad()
    def _search(
        self, look: Look, start: Any, longest: Tensor, before: Tensor
    ) -> tuple[Tensor, float]:
        """Tries shorter and shorter steps; returns objective and divergence [2], and the length."""
        origin, least = self.flat.clone(), before[0] - self._penalty()
        for attempt in range(self.attempts):
            length = self.shrinking**attempt
            self.flat.copy_(torch.add(origin, longest, alpha=length))
            found = self._sum(torch.stack(look(start)[:2]))
            grows = found[0] - self._penalty() > least
            if grows & (found[1] <= self.limit):  # waits for a GPU
                return found, length
        self.flat.copy_(origin)
        return before, 0.0

    def _penalty(self) -> Tensor | float:
        return 0.0 if self.penalised is None else self.penalty.value(self.flat, self.penalised)

    def gradient(self, of: Tensor, create_graph: bool = False) -> Tensor:
        """The gradient [P] of a scalar, of this learner's share; keeps the scalar's graph."""
        if not self.parameters:
            return torch.zeros_like(self.flat)
        grads = torch.autograd.grad(
            *(of, self.parameters),
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )
        return torch.cat([grad.reshape(-1) for grad in grads])

    def _sum(self, x: Tensor) -> Tensor:
        """The sum over all learners."""
        return x if self.replicas is None else self.replicas.sum(x)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """Solves A x = b for a symmetric positive definite A (Hestenes & Stiefel 1952).

    Args:
        product: From v [P] to A v.
        b: [P].
        iterations: Most steps, of one product each.
        tolerance: Of the residual's squared norm, where it ends earlier.

    Returns:
        x, [P].
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = residual @ residual
    for _ in range(iterations):
        if square < tolerance:
            break
        turned = product(direction)
        share = square / (direction @ turned)
        x = x + share * direction
        residual = residual - share * turned
        before, square = square, residual @ residual
        direction = residual + square / before * direction
    return x
