"""A teacher: another policy that advises on the states that the student visits.

"Kickstarting deep reinforcement learning" by Schmitt et al. (2018): the distance from what the
teacher would do is a term of the loss, whose weight falls to 0. The states are the student's own
("DAgger" by Ross et al. 2011). The teacher may be of any kind and have any network: it sees the
same observations, by statistics and a memory of its own, and chooses among the same actions; see
`policies.advice` for what a student learns from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from ..core.errors import RunError
from ..core.rollout import Rollout
from ..core.stateful import Stateful
from ..core.tree import map_tree
from ..envs.observations import check_fit
from ..networks.heads.gaussian import gaussian_kl
from .learning.distillation import categorical_kl, large_margin
from .learning.losses import masked_mean
from .learning.schedules import scheduled
from .learning.terms import Terms
from .policies.actor_critic import ActorCritic
from .policies.advice import adviser, form_between, greedy, outputs
from .policies.policy import Policy
from .replay.sample import Sample
from .setup import Setup
from .teacher_config import TeacherConfig, ValueTeacherConfig

ADVICE = "advice"
"""The name of the advice among the extras of a rollout."""


class Lesson(TypedDict):
    """What a minibatch has of a teacher."""

    advice: NotRequired[Tensor]  # [L, N, *]
    teacher_coef: NotRequired[Tensor]  # of the distance in the loss: a scalar, or [1, N]


class Teacher:
    """Advises a student in the states of its rollouts; see `Stateful` for what it remembers.

    It is in eval mode, without a gradient. Its memory of each column goes on from one rollout to
    the next, and `first` empties it.

    Args:
        config: The student's settings of it.
        setup: What the student is built for; it has the policy that teaches.
        student: The policy that learns.

    Raises:
        ValueError: The two have other observations or actions.
    """

    def __init__(self, config: TeacherConfig, setup: Setup, student: Policy) -> None:
        policy = setup.teacher
        assert policy is not None
        self.config, self.student = config, student
        self.place = f"agent.teacher.from={config.source}"
        if not policy.teaches:
            raise ValueError(f"{self.place}: has no distribution or values to learn from")
        check_fit(student, policy, self.place, bounds=True)
        self.policy = policy.to(setup.device).eval().requires_grad_(False)
        self.digest = digest(policy)
        self.form = form_between(policy, student)
        self._run = outputs(policy)
        self._advice = adviser(policy, student, config.temperature)
        self.memory = map_tree(lambda leaf: leaf.clone(), policy.initial_state(setup.num_envs))

    @torch.no_grad()
    def advise(self, rollout: Rollout[Tensor]) -> Rollout[Tensor]:
        """The rollout with the teacher's advice [T, B, *] in its extras."""
        columns = rollout.columns
        state = map_tree(lambda leaf: leaf.index_select(1, columns), self.memory)
        obs = map_tree(lambda leaf: leaf[:-1], rollout.obs)
        output, state = self._run(obs, state, rollout.first[:-1])
        map_tree(lambda kept, leaf: kept.index_copy_(1, columns, leaf), self.memory, state)
        return replace(rollout, extras={**rollout.extras, ADVICE: self._advice(output)})

    def recall(self, sample: Sample, rows: slice, progress: float) -> dict[str, Tensor]:
        """What a minibatch of a replay needs for `teach`, see `Lesson`.

        Args:
            sample: Windows of rollouts with advice.
            rows: Those that are learned from.
            progress: Share of the run that is done.
        """
        coef = torch.full_like(sample.weight[None], self.coef(progress))
        return {ADVICE: sample.extras[ADVICE][rows], "teacher_coef": coef}

    def coef(self, progress: float) -> float:
        """The weight of the distance in the loss at a share of the run."""
        config = self.config
        if config.fraction < 1 and progress >= config.fraction:
            return 0.0  # of a constant weight, too
        return float(scheduled(config.coef, config.schedule, progress / config.fraction))

    def distance(self, output: Any, advice: Tensor) -> Tensor:
        """How far the student is from the advice, [L, N].

        Args:
            output: What the student's `forward` returns first, of [L, N] steps.
            advice: [L, N, *].
        """
        config = self.config
        if self.form == "head":
            assert isinstance(self.student, ActorCritic)
            return self.student.head.kl(advice, output)
        if self.form == "gaussian":
            return gaussian_kl(advice.chunk(2, -1), output)
        if self.form == "action":
            return (greedy(self.student, output) - advice).square().mean(-1)
        if not isinstance(config, ValueTeacherConfig):
            return categorical_kl(advice, output)
        if config.form == "margin":
            return large_margin(output, advice.argmax(-1), config.margin)
        return categorical_kl(advice, (output / config.temperature).log_softmax(-1))

    def teach(self, loss: Tensor, output: Any, batch: Any, terms: Terms) -> Tensor:
        """Adds the weighted distance to a loss [L, N], and the distance itself to its terms.

        Args:
            loss: Of each step.
            output: What the student's `forward` returns first.
            batch: The minibatch, with `advice` [L, N, *] and `teacher_coef`.
            terms: Of the loss.
        """
        distance = self.distance(output, batch[ADVICE])
        terms[ADVICE] = distance.detach()
        return loss + batch["teacher_coef"] * distance

    def metrics(self, terms: Terms, progress: float) -> Terms:
        """The mean distance over the steps that learned from it, and its weight."""
        if ADVICE not in terms:
            return {}
        kinds = {"action": "teacher/error", "margin": "teacher/margin"}
        config = self.config
        kind = config.form if isinstance(config, ValueTeacherConfig) else self.form
        valid = terms.get("actor_valid", terms["valid"])
        return {
            kinds.get(kind, "teacher/kl"): masked_mean(terms[ADVICE], valid),
            "teacher/coef": torch.tensor(self.coef(progress)),
        }

    def facts(self) -> dict[str, str | None]:
        """What a run says of its teacher."""
        config = self.config
        return {"from": config.source, "checkpoint": config.checkpoint, "sha256": self.digest}

    def state_dict(self) -> dict[str, Any]:
        """Its memory, and the checksum of its weights; the weights are in its own run."""
        return {"digest": self.digest, "memory": self.memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood.

        Raises:
            RunError: It is another teacher than the run has begun with.
        """
        if state["digest"] != self.digest:
            raise RunError(
                f"{self.place}: checkpoint {self.config.checkpoint} is not the one that the run "
                "began with; put that one there, or start a new run"
            )
        map_tree(lambda kept, leaf: kept.copy_(leaf), self.memory, state["memory"])


def given_teacher(
    config: TeacherConfig, setup: Setup, student: Policy, parts: dict[str, Stateful]
) -> Teacher | None:
    """The teacher that an agent is built with, which is now among its parts; None: there is none.

    Raises:
        ValueError: See `Teacher`.
    """
    if setup.teacher is None:
        return None
    teacher = parts["teacher"] = Teacher(config, setup, student)
    return teacher


def digest(module: nn.Module) -> str:
    """SHA-256 of a module's tensors and their names."""
    found = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        found.update(name.encode())
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
