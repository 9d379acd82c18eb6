"""The one place where weights change: zero, backward, clip, Adam, on one flat buffer each.

All trained parameters are views into `flat`; gradients and moments are vectors of the same length.
So clipping and Adam are a dozen operations whatever the network, and an update, forward, loss,
backward, clip and step, is one function of tensors that can be recorded or compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..networks.layers import BatchStatistics
from .adam import State, Step, adam, fused_adam
from .compiled import Compiled
from .peers import Peers
from .recorded import Recorded

Metrics = dict[str, Tensor]
Execution = Literal["plain", "recorded", "compiled"]
"""Of an update: with autograd; from a recording of that; as one compiled graph."""
LossFunction = Callable[[Any, Any], tuple[Tensor, Metrics]]


class _Loss(nn.Module):
    """The loss as a module, so that `functional_call` can put other weights under it."""

    def __init__(self, module: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, batch: Any) -> tuple[Tensor, Metrics]:
        return self.loss(self.module, batch)


class Optimizer:
    """Adam(W) with a limit of the gradient norm, over the parameters that need a gradient.

    Args:
        module: What is trained; its parameters become views of one buffer, so move it before.
        loss: `loss(module, batch) -> (scalar, metrics)`, pure; with peers a weighted sum and its
            elementwise terms [L, N], see `peers`.
        learning_rate: Step of Adam; `rate.fill_` changes it between updates.
        max_grad_norm: Limit of the gradient's global L2 norm; None for no limit.
        eps: Adam's epsilon.
        weight_decay: Decoupled (AdamW), on weight matrices only (not biases, norms or log_std).
        execution: Of updates; only plain ones may depend on more than tensors, and those of the
            module must stay. Compiling takes 5-30 s (cached on disk); what cannot be is plain.
        prepare: What the loss takes of a whole minibatch, made before that is shared out.
        peers: The learners that share each minibatch, in plain updates; None: this one takes it
            whole.
    """

    betas = (0.9, 0.999)

    def __init__(
        self,
        module: nn.Module,
        loss: LossFunction,
        *,
        learning_rate: float,
        max_grad_norm: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        execution: Execution = "plain",
        prepare: Callable[[Any], Any] = lambda batch: batch,
        peers: Peers | None = None,
    ) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.max_grad_norm = max_grad_norm
        self.eps = eps
        self.weight_decay = weight_decay
        self.module = module
        self.loss = loss
        self.prepare = prepare
        self.names = [f"module.{name}" for name, _ in named]
        self.shapes = [p.shape for _, p in named]
        self.sizes = [p.numel() for _, p in named]
        self.flat = torch.cat([p.detach().reshape(-1) for _, p in named])
        self.mean = torch.zeros_like(self.flat)
        self.square = torch.zeros_like(self.flat)
        self.count = torch.tensor(0.0, device=self.flat.device)
        self.rate = torch.tensor(learning_rate, device=self.flat.device)
        self.state: State = self.flat, self.mean, self.square, self.count, self.rate
        for (_, parameter), view in zip(named, self._views(self.flat), strict=True):
            parameter.data = view
        self.parameters = [parameter for _, parameter in named]
        self._wrapped = _Loss(module, loss)
        self.execution = execution
        self._update = self._executed(execution)
        self.peers = peers
        if peers is not None:
            for layer in module.modules():
                if isinstance(layer, BatchStatistics):
                    layer.total = peers.sum

    def _executed(self, execution: Execution) -> Callable[[Any], Metrics]:
        """The update, run as said."""
        if execution == "recorded":
            always = (*self.module.parameters(), *self.module.buffers(), *self.state)
            return Recorded(self._plain_update, always)
        if execution == "compiled":
            always = self._rest(), self.state
            return Compiled(self._functional_update, always, instead=self._plain_update)
        return self._plain_update

    def update(self, batch: Any, veto: Callable[[Metrics], bool] | None = None) -> Metrics:
        """Takes one step down the loss of `batch`; returns what the loss does, and `grad_norm`.

        Args:
            batch: What `prepare` takes; a tree of tensors.
            veto: Looks at the metrics before the step and may forbid it; in plain updates.
        """
        if self.peers is None and veto is None:
            return self._update(batch)
        assert self.execution == "plain"
        batch = self.prepare(batch)
        grad, metrics = (
            self._gradient(batch) if self.peers is None else self._shared(self.peers, batch)
        )
        if veto is not None and veto(metrics):
            return metrics
        return metrics | {"grad_norm": self._apply(self.state, grad)}

    def _plain_update(self, batch: Any) -> Metrics:
        grad, metrics = self._gradient(self.prepare(batch))
        return metrics | {"grad_norm": self._apply(self.state, grad)}

    def _shared(self, peers: Peers, batch: Any) -> tuple[Tensor, Metrics]:
        """Gradient and metrics of a minibatch of which this learner computes its share."""
        with peers.own_draws(self.module, self.flat.device):
            grad, metrics = self._gradient(peers.share(batch))
        return peers.total(grad, metrics, batch)

    def _gradient(self, batch: Any) -> tuple[Tensor, Metrics]:
        """Gradient [P] and metrics of a minibatch."""
        loss, metrics = self.loss(self.module, batch)
        return _flat_gradient(loss, self.parameters), metrics

    @torch.no_grad()
    def _apply(self, state: State, grad: Tensor, step: Step = fused_adam) -> Tensor:
        """Clips, decays and steps in place; returns the gradient's norm before the clip."""
        norm = torch.linalg.vector_norm(grad)
        if self.max_grad_norm is not None:
            grad = grad * (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        if self.weight_decay:
            flat, rate = state[0], state[-1]
            for parameter in self._views(flat):
                if parameter.ndim > 1:
                    parameter.mul_(1 - rate * self.weight_decay)
        step(state, grad, self.eps, self.betas)
        return norm

    def _functional_update(self, rest: dict[str, Tensor], state: State, batch: Any) -> Metrics:
        """The same update, of nothing but its arguments: what can be compiled whole."""
        weights = [view.detach().requires_grad_() for view in self._views(state[0])]
        named = rest | dict(zip(self.names, weights, strict=True))
        with torch.enable_grad():
            loss, metrics = functional_call(self._wrapped, named, (self.prepare(batch),))
            grad = _flat_gradient(loss, weights)
        return metrics | {"grad_norm": self._apply(state, grad, adam)}

    def _rest(self) -> dict[str, Tensor]:
        """What the loss reads of the module and is not trained."""
        named = (*self._wrapped.named_parameters(), *self._wrapped.named_buffers())
        return {name: tensor for name, tensor in named if name not in self.names}

    def _views(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split(self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """Each parameter as `weights/NAME`; Adam's mean of its last gradients as `gradients/NAME`.

        The mean, over about ten updates, is there in a compiled update as well.
        """
        named: dict[str, Tensor] = {}
        for kind, flat in (("weights", self.flat), ("gradients", self.mean)):
            names = (f"{kind}/{name.removeprefix('module.')}" for name in self.names)
            named.update(zip(names, self._views(flat), strict=True))
        return named

    def state_dict(self) -> dict[str, Any]:
        """Moments and the number of updates; the weights belong to the module."""
        return {"count": self.count, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.count.copy_(state["count"])
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])


def _flat_gradient(loss: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The gradient of a scalar, flat [P]; 0 for weights that it does not depend on."""
    grads = torch.autograd.grad(loss, weights, materialize_grads=True)
    return torch.cat([g.reshape(-1) for g in grads])


def joined(traces: list[Metrics]) -> Metrics:
    """Traces of several updates as one: scalars [U], terms [L, N] of all; a veto leaves gaps."""
    found: dict[str, list[Tensor]] = {}
    for trace in traces:
        for name, value in trace.items():
            found.setdefault(name, []).append(value)
    return {
        name: torch.cat(values, 1) if values[0].ndim else torch.stack(values)
        for name, values in found.items()
    }
