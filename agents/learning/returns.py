"""Returns and advantages: one backward recursion, `acc[t] = delta[t] + decay[t] * acc[t+1]`.

Shapes: T transitions, B columns, time first; values have T+1 rows, one a state. `valid[t]` is False
where step t was a reset (see `Rollout`): there obs[t] is the true last observation of an episode,
so its value is the bootstrap of step t-1 and nothing flows back across it. `discount` is 0 at
termination and 1 elsewhere; `gamma` enters here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import LARGEST_LOG_RATIO


def backward_recursion(delta: Tensor, decay: Tensor, last: Tensor) -> Tensor:
    """Solves `acc[t] = delta[t] + decay[t] * acc[t+1]` with `acc[T] = last`.

    Args:
        delta: [T, B].
        decay: [T, B].
        last: [B].

    Returns:
        acc, [T, B].
    """
    assert delta.shape == decay.shape and last.shape == delta.shape[1:]
    # After each round row t holds the sum of the first `reach` terms and the product of their
    # decays: log2(T) rounds over all rows (Hillis & Steele 1986) and not T steps of one row.
    acc = torch.cat((delta, last[None]))
    decay = torch.cat((decay, torch.zeros_like(last[None])))
    reach = 1
    while reach < len(acc):
        near, far = decay[:-reach], slice(reach, None)
        acc = torch.cat((torch.addcmul(acc[:-reach], near, acc[far]), acc[-reach:]))
        decay = torch.cat((near * decay[far], decay[-reach:]))
        reach *= 2
    return acc[:-1]


def gae(
    reward: Tensor,
    discount: Tensor,
    valid: Tensor,
    value: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, equations 11-16); 0 at invalid steps.

    `advantage + value[:-1]` is the TD(lambda) return; `gae_lambda=0` is the one-step TD error and
    `gae_lambda=1` the discounted return minus the value.

    Args:
        reward: [T, B].
        discount: [T, B], 0 at termination.
        valid: [T, B] bool.
        value: [T+1, B], of the same weights that acted.
        gamma: Discount per step.
        gae_lambda: Weight of longer returns, in [0, 1].

    Returns:
        Advantages, [T, B].
    """
    delta, decay = _td_errors(reward, discount, valid, value, gamma)
    return backward_recursion(delta, gae_lambda * decay, torch.zeros_like(reward[0]))


def lambda_returns(
    reward: Tensor,
    discount: Tensor,
    valid: Tensor,
    value: Tensor,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """TD(lambda) returns G[t] = r + gamma (lambda G[t+1] + (1 - lambda) V[t+1]), G[T] = V[T].

    With the greatest action value of each state as V they are Peng's Q(lambda) (Peng & Williams
    1996). Arguments as those of `gae`.

    Returns:
        Returns, [T, B]; V at invalid steps.
    """
    return gae(reward, discount, valid, value, gamma, lambda_) + value[:-1]


def vtrace(
    reward: Tensor,
    discount: Tensor,
    valid: Tensor,
    value: Tensor,
    log_ratio: Tensor,
    gamma: float,
    gae_lambda: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """V-trace targets and advantages (Espeholt et al. 2018, section 4.1); 0 at invalid steps.

    On-policy (`log_ratio` 0) and with neither limit below 1, the targets are TD(lambda) returns and
    the advantages those of `gae`. The advantage bootstraps from lambda vs + (1 - lambda) V of the
    next state, which is the paper's vs for its lambda of 1 (section 4.2, equation 4 has no lambda).

    Args:
        reward: [T, B].
        discount: [T, B], 0 at termination.
        valid: [T, B] bool.
        value: [T+1, B], of the weights that learn.
        log_ratio: [T, B], log pi(a|s) of the weights that learn - log mu(a|s) of those that acted.
        gamma: Discount per step.
        gae_lambda: Factor on the trace weights c (section 4.1, remark 2), in [0, 1].
        rho_bar: Limit of the ratios that weigh TD errors: what policy the values converge to.
        c_bar: Limit of the ratios that weigh the trace: how far corrections reach.

    Returns:
        Targets vs, advantages r + gamma vs' - V, and the weights rho = min(rho_bar, ratio) that the
        policy gradient puts before these, each [T, B].
    """
    delta, decay = _td_errors(reward, discount, valid, value, gamma)
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    rho = ratio.clamp(max=rho_bar)
    last = torch.zeros_like(reward[0])
    trace = gae_lambda * decay * ratio.clamp(max=c_bar)
    correction = backward_recursion(rho * delta, trace, last)  # vs - V
    later = torch.cat((correction[1:], last[None]))
    advantage = delta + gae_lambda * decay * later
    return value[:-1] + correction, advantage, rho


def _td_errors(
    reward: Tensor, discount: Tensor, valid: Tensor, value: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """One-step TD errors and the weight of the next step's value, [T, B]; 0 at invalid steps."""
    assert value.shape == (reward.shape[0] + 1, *reward.shape[1:])
    decay = gamma * discount * valid
    return valid * (reward - value[:-1]) + decay * value[1:], decay


def n_step_returns(
    reward: Tensor, discount: Tensor, valid: Tensor, value: Tensor, gamma: float, n: int
) -> Tensor:
    """n-step bootstrapped returns (Sutton & Barto 2018, section 7.1).

    A window that meets a termination stops there; one that meets a truncation bootstraps from the
    true last observation, with gamma to the power of the steps really taken.

    Args:
        reward: [T, B].
        discount: [T, B], 0 at termination.
        valid: [T, B] bool.
        value: [T+1, B]: the bootstrap value of each state; or [T+1, B, *], several for each.
        gamma: Discount per step.
        n: Steps before the bootstrap, at most T.

    Returns:
        Returns of the first T-n+1 steps, [T-n+1, B] or [T-n+1, B, *]; meaningless where the step
        itself is invalid.
    """
    length = reward.shape[0] - n + 1
    assert length > 0 and value.shape[:2] == (reward.shape[0] + 1, reward.shape[1])
    if value.ndim > 2:
        each = (..., *[None] * (value.ndim - 2))
        reward, discount, valid = reward[each], discount[each], valid[each]
    acc = value[n:]
    for k in reversed(range(n)):
        rows = slice(k, k + length)
        acc = torch.where(valid[rows], reward[rows] + gamma * discount[rows] * acc, value[rows])
    return acc


def bootstrap_rows(value: Tensor) -> Tensor:
    """Values [T+1, B] from those of states 1 to T: an n-step return reads none of state 0."""
    return torch.cat((torch.zeros_like(value[:1]), value))


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """h(x) = sign(x)(sqrt(|x|+1)-1) + epsilon x (Pohlen et al. 2018, proposition A.2).

    In a form that subtracts nothing: float32 keeps its digits where x is small.
    """
    return x / ((x.abs() + 1).sqrt() + 1) + epsilon * x


def unscale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """The inverse of `rescale`, in float32 accurate to 1e-6 relative.

    With y the result and u = sqrt(|y|+1) - 1, `rescale` is epsilon u^2 + (1 + 2 epsilon) u = |x|.
    The root is taken in the form that subtracts nothing: the textbook form has lost all digits
    where |x| is 1e-5.
    """
    slope = 1 + 2 * epsilon
    u = 2 * x / (slope + (slope**2 + 4 * epsilon * x.abs()).sqrt())
    return u * (u.abs() + 2)
