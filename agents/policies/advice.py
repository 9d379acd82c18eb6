"""What a policy says of the actions, in a form that another kind of policy can learn from.

    discrete actions   the parameters of the student's head, part by part; or log-probabilities of
                       joint actions, where the student has values or probabilities of these
    a Box              mean and logarithm of the deviation, where both have a Gaussian, and squash
                       it or do not; else the most likely action

Values count as log-probabilities: the softmax of Q / temperature ("Policy distillation" by Rusu et
al. 2016). Of joint probabilities a head learns those of each part: the divergence that is left out
does not depend on the student.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from ...networks.heads.discrete import INVALID, Bernoulli, Categorical
from ...networks.heads.squashed import Squashed
from .actor_critic import ActorCritic
from .deterministic import Deterministic
from .epsilon_greedy import EpsilonGreedy
from .joint_actions import JointActions
from .policy import Policy
from .q_values import QPolicy
from .squashed import SquashedGaussian

Form = Literal["head", "joint", "gaussian", "action"]
CERTAIN = 1e-6
"""The least probability of a bit, whose logit must be finite."""


def form_between(teacher: Policy, student: Policy) -> Form:
    """The form in which the student learns from the teacher."""
    if not isinstance(student.action_space, spaces.Box):
        return "head" if isinstance(student, ActorCritic) else "joint"
    squashed = _squashes(teacher)
    return "gaussian" if squashed is not None and squashed == _squashes(student) else "action"


def adviser(teacher: Policy, student: Policy, temperature: float) -> Callable[[Any], Tensor]:
    """Makes a function from the first result of the teacher's `forward`, [T, B, *], to advice.

    Args:
        teacher: Any policy.
        student: Any policy with the same actions.
        temperature: Of the softmax of a teacher's values.
    """
    form = form_between(teacher, student)
    if form == "gaussian":
        return lambda output: torch.cat((output[0], output[1].expand_as(output[0])), -1)
    if form == "action":
        return lambda output: greedy(teacher, output)
    if form == "head" and isinstance(teacher, ActorCritic):
        return lambda output: output
    joint = JointActions(teacher.action_space).to(next(teacher.parameters()).device)
    if form == "joint":
        return lambda output: _joint(teacher, output, temperature, joint)
    assert isinstance(student, ActorCritic)
    return lambda output: _parts(student, _joint(teacher, output, temperature, joint), joint)


def greedy(policy: Policy, output: Any) -> Tensor:
    """The most likely actions [*, A] in a Box, from the first result of `forward`."""
    if isinstance(policy, ActorCritic):
        return policy.head.mode(output)
    if isinstance(policy, SquashedGaussian):
        return output[0].tanh()
    assert isinstance(policy, Deterministic)
    return output


def outputs(policy: Policy) -> Callable[..., tuple[Any, Any]]:
    """From observations, memory and `first` to the first result of `forward`, and the memory."""

    def run(obs: Any, state: Any, first: Tensor) -> tuple[Any, Any]:
        noiseless = {"noisy": False} if isinstance(policy, QPolicy) else {}
        output, *_, state = policy(obs, state, first, **noiseless)
        return output, state

    return run


def _squashes(policy: Policy) -> bool | None:
    """Whether tanh squashes the policy's Gaussian; None: it has none."""
    if isinstance(policy, ActorCritic):
        return isinstance(policy.head, Squashed)
    return True if isinstance(policy, SquashedGaussian) else None


def _joint(policy: Policy, output: Any, temperature: float, joint: JointActions) -> Tensor:
    """Log-probabilities [*, A] of joint actions."""
    if isinstance(policy, EpsilonGreedy):
        return (output / temperature).log_softmax(-1)
    if not isinstance(policy, ActorCritic) or joint.actions is None:
        return output
    params = output.unsqueeze(-1 - len(output.shape[2:]))  # before the parts
    actions = joint.actions.expand(*params.shape[:2], *joint.actions.shape)
    if not isinstance(policy.head, Bernoulli):
        params = params.expand(*actions.shape, params.shape[-1])
    return policy.head.log_prob(params, actions)


def _parts(student: ActorCritic, log_prob: Tensor, joint: JointActions) -> Tensor:
    """The parameters of the student's head for the marginals of joint log-probabilities [*, A]."""
    if isinstance(student.head, Categorical):
        return log_prob
    assert joint.actions is not None
    share = log_prob.exp()
    if isinstance(student.head, Bernoulli):
        logit = torch.logit(share @ joint.actions.to(share.dtype), eps=CERTAIN)
        allowed, ones = (log_prob > INVALID / 2).unsqueeze(-1), joint.actions > 0  # [*, A, parts]
        may_be_1, may_be_0 = (allowed & ones).any(-2), (allowed & ~ones).any(-2)
        return logit.masked_fill(~may_be_1, INVALID).masked_fill(~may_be_0, -INVALID)
    chosen = F.one_hot(joint.actions.long()).to(share.dtype)  # [A, parts, choices]
    part = torch.einsum("...a,akn->...kn", share, chosen)
    return part.log().clamp(min=INVALID)
