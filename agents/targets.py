"""What Q-learning takes of windows of the replay: steps, memories and n-step targets."""

from __future__ import annotations

import torch
from pydantic import Field

from ..envs.tree import Tree, map_tree
from .agent import AgentConfig
from .q_policy import QPolicy
from .replay import Sample
from .returns import n_step_returns, rescale, unscale


class TargetConfig(AgentConfig, frozen=True):
    """How windows are cut and valued."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    n_step: int = Field(default=1, gt=0)
    """Rewards summed before the bootstrap."""
    double: bool = True
    """The online network chooses the action that the target network values."""
    value_rescaling: bool = False
    """Learn h(Q) instead of Q (Pohlen et al. 2018): for returns of very different size."""
    sequence_length: int = Field(default=20, gt=0)
    """Steps that a memory network learns from at once (unused without memory)."""
    burn_in: int = Field(default=0, ge=0)
    """Steps before them that only warm the memory, without gradient (unused without memory)."""


@torch.no_grad()
def learnable(
    sample: Sample,
    online: QPolicy,
    target: QPolicy,
    config: TargetConfig,
    begin: int,
    length: int,
) -> dict[str, Tree]:
    """Turns windows [W, N] into L steps to learn from and their n-step targets.

    Args:
        sample: The windows.
        online: What learns; in eval mode, as the next.
        target: Values the states from row `begin` + 1 on; its memory is its own.
        config: How.
        begin: The first row that is learned from; those before it warm the memory.
        length: L.
    """
    rows, late = slice(begin, begin + length), slice(begin + 1, None)
    after = map_tree(lambda leaf: leaf[late], sample.obs)
    memory = _warm(target, sample, sample.state, 0, begin + 1)
    q, _ = target(after, memory, sample.first[late])
    chosen, state = q, _warm(online, sample, sample.state, 0, begin)
    if config.double:
        memory = _warm(online, sample, state, begin, begin + 1)
        chosen, _ = online(after, memory, sample.first[late])
    value = q.gather(-1, chosen.argmax(-1, keepdim=True)).squeeze(-1)
    if config.value_rescaling:
        value = unscale(value)
    value = torch.cat((torch.zeros_like(value[:1]), value))
    stream = sample.reward[begin:], sample.discount[begin:], sample.valid[begin:]
    returns = n_step_returns(*stream, value, config.gamma, config.n_step)
    return {
        "obs": map_tree(lambda leaf: leaf[rows], sample.obs),
        "first": sample.first[rows],
        "state": state,
        "action": sample.action[rows],
        "target": rescale(returns) if config.value_rescaling else returns,
        "valid": sample.valid[rows].float(),
        "weight": sample.weight[None],
    }


def _warm(policy: QPolicy, sample: Sample, state: Tree, begin: int, end: int) -> Tree:
    """The memory of `policy` after rows begin to end - 1, from `state`; () without memory."""
    if state == () or begin == end:
        return state
    obs = map_tree(lambda leaf: leaf[begin:end], sample.obs)
    return policy(obs, state, sample.first[begin:end])[1]
