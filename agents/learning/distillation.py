"""How far a policy is from its teacher: pure functions, [*] for each step."""

from __future__ import annotations

from torch import Tensor


def categorical_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The divergence KL(p || q) of log-probabilities [*, A]."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def large_margin(q: Tensor, action: Tensor, margin: float) -> Tensor:
    """max_a [q(a) + margin 1(a != action)] - q(action), which is 0 where the action leads by more.

    "Deep Q-learning from demonstrations" by Hester et al. (2018), equation 1.

    Args:
        q: Values [*, A].
        action: [*] int64.
        margin: By how much the action shall lead.
    """
    index = action.unsqueeze(-1)
    chosen = q.gather(-1, index)
    return (q + margin).scatter(-1, index, chosen).amax(-1) - chosen.squeeze(-1)
