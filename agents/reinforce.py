"""REINFORCE: the policy gradient of whole episodes, with a learned baseline or without.

Williams 1992; Sutton & Barto 2018, sections 13.3 and 13.4. A step's return is the sum of all later
rewards of its episode, without bootstrapping. So a step waits until its episode has ended (see
`replay/unfinished`) and is then learned from once, in one gradient step with all others that wait
no longer. Networks with memory learn from the whole episode.

Deviations: steps that waited were chosen by weights up to (episode length / n_steps) updates older;
with `n_steps` of an episode's length that is one. A truncated episode counts as ended: its last
steps have smaller returns than they deserve. The factor gamma^t of section 13.3 is left out, as
everywhere: late steps count as much as early ones. The loss is a mean over steps, not a sum.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.errors import RunError
from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .learning.losses import masked_mean, masked_normalize
from .learning.returns import backward_recursion
from .learning.terms import Terms
from .on_policy import OnPolicyAgent, OnPolicyConfig, explained_variance
from .replay.unfinished import Unfinished
from .setup import Setup

_log = logging.getLogger(__name__)


class REINFORCE(OnPolicyAgent):
    """Monte-Carlo policy gradient, discrete and continuous."""

    why_not_late: ClassVar[str] = "its gradient has no ratio to an older policy that acted"

    class Config(OnPolicyConfig, frozen=True):
        """REINFORCE's settings."""

        name: str = "reinforce"
        """This file."""
        baseline: bool = True
        """Subtract a learned value of the state from the return: the same gradient, less noise."""
        vf_coef: float = Field(default=0.5, ge=0)
        """Weight of the baseline's loss."""
        normalize_advantage: bool = False
        """Mean 0 and deviation 1 of what weighs the steps of an update."""
        max_episode_steps: int = Field(default=10_000, ge=1)
        """Steps of an episode that are kept; a longer one ends the run, for it may never end."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.warned = False
        self.unfinished = self.parts["unfinished"] = Unfinished(self.device)
        updates = setup.total_steps / (config.n_steps * setup.num_envs)
        self.execute(updates, "each update of agent=reinforce has another number of steps")

    @property
    def learns_values(self) -> bool:
        """See `OnPolicyAgent.learns_values`: they are the baseline."""
        return self.config.baseline and self.config.vf_coef > 0

    @torch.no_grad()
    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[dict[str, Tree], Metrics]:
        """See `FreshAgent.batch_of`: the steps whose episodes have ended, with their returns.

        Raises:
            RunError: An episode is too long.
        """
        stream, learned, count = self.unfinished.extend(rollout)
        longest = self.config.max_episode_steps
        if len(self.unfinished) > longest:
            raise RunError(
                f"agent=reinforce: an episode has more than {longest} steps, and is learned from "
                "when it has ended; set env.time_limit, or raise agent.max_episode_steps"
            )
        valid = stream.pop("valid")
        reward, last = stream.pop("reward"), torch.zeros_like(rollout.reward[0])
        stream["target"] = backward_recursion(reward * valid, self.config.gamma * valid, last)
        stream["valid"] = learned.float()
        state = self.policy.initial_state(learned.shape[1])
        if state == ():  # each step is learned from by itself
            stream = map_tree(lambda leaf: leaf[learned].unsqueeze(0), stream)
        if self.config.normalize_advantage and count == 1 and not self.warned:
            self.warned = True
            _log.warning(
                "agent.normalize_advantage: an update had one step alone, which has no standard "
                "deviation; its advantage is taken as 0. Raise agent.n_steps or num_envs"
            )
        metrics: Metrics = {"train/finished_steps": count.float()}
        stream["advantage"] = stream["target"]
        if self.config.baseline and count:
            value = self.policy.values(stream["obs"], state, stream["first"])
            error, target = stream["target"] - value, stream["target"]
            metrics["value/explained_variance"] = explained_variance(error, target, stream["valid"])
            stream["advantage"] = error
        return stream | {"state": state}, metrics

    def minibatches(self, batch: dict[str, Tree]) -> Iterator[dict[str, Tree]]:
        """See `FreshAgent.minibatches`: all at once, or nothing if no episode has ended."""
        if batch["valid"].any():
            yield batch

    def weigh(self, batch: Any) -> Any:
        """See `FreshAgent.weigh`: normalises the advantages as well."""
        if self.config.normalize_advantage:
            normalized = masked_normalize(batch["advantage"], batch["valid"])
            batch = batch | {"advantage": normalized}
        return super().weigh(batch)

    def loss(self, batch: Any) -> tuple[Tensor, Terms]:
        """-log pi(a|s) (G - b(s)), the baseline's squared error and the entropy bonus."""
        policy = self.policy
        params, value, _ = policy(batch["obs"], batch["state"], batch["first"])
        gain = policy.head.log_prob(params, batch["action"]) * batch["advantage"]
        entropy = policy.head.entropy(params)
        total = -gain - batch["ent_coef"] * entropy
        terms = {"gain": gain, "entropy": entropy}
        if self.config.baseline:
            terms["error"] = (batch["target"] - value).square()
            total = total + self.config.vf_coef * terms["error"]
        terms = {name: term.detach() for name, term in terms.items()}
        return (total * batch["weight"]).sum(), terms | {"valid": batch["valid"]}

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`; none where nothing was learned."""
        names = {"loss/value": "error", "policy/entropy": "entropy", "loss/policy": "gain"}
        found = {
            name: masked_mean(terms[term], terms["valid"])
            for name, term in names.items()
            if term in terms
        }
        return found | ({"loss/policy": -found["loss/policy"]} if found else {})
