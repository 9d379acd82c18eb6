"""The whole configuration of a run: what `config.yaml` in its folder says.

A section's class stands beside the code that it configures; here is what belongs to the run.
"""

import json
import re
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, SerializeAsAny, field_validator, model_validator

from ..agents.agent import AgentConfig, agent_class
from ..envs.make import EnvConfig
from ..networks import NetworkConfig, block_class


class EvalConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When the greedy policy plays episodes of its own, and how many."""

    interval_steps: int = Field(default=10_000, ge=0)
    """Steps between evaluations; the best is `checkpoints/best`. 0: only at the end."""
    episodes: int = Field(default=10, gt=0)
    """Episodes of one evaluation during training."""
    final_episodes: int = Field(default=100, gt=0)
    """Episodes of the evaluation that ends the run and fills summary.json."""
    video_interval_steps: int = Field(default=0, ge=0)
    """Steps between films of one more episode, with the evaluation after them. 0: none."""

    @model_validator(mode="after")
    def _films_come_with_evaluations(self) -> Self:
        if self.video_interval_steps and not self.interval_steps:
            raise ValueError(
                f"video_interval_steps={self.video_interval_steps}: expected 0, because films come "
                "with evaluations and interval_steps=0 has none"
            )
        return self


class CheckpointConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When the run is saved, and what is kept."""

    interval_steps: int = Field(default=50_000, ge=0)
    """Environment steps between checkpoints: the most that a crash can cost. 0: only at the end."""
    keep: int = Field(default=0, ge=0)
    """Newest `step_...` checkpoints kept beside `last` and `best`; a replay makes them large."""


class WandbConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Weights & Biases, a mirror of metrics.jsonl."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """offline: into the run's folder, for later; online: uploaded; disabled: not even imported."""
    project: str = Field(default="neuraxis", min_length=1)
    """Project that the run appears in."""
    entity: str | None = None
    """User or team that the project belongs to; null: the account's own default."""
    group: str | None = None
    """Group that the run belongs to; null: none."""
    job_type: str | None = None
    """Kind of run within the group; null: none."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    notes: str | None = None
    """What is special about the run, in your own words; null: nothing."""
    artifacts: bool = False
    """Upload checkpoints as artifacts with the aliases `best` and `last`; offline they stay."""
    histogram_interval_steps: int = Field(default=0, ge=0)
    """Steps between histograms of weights and gradients. 0: none."""


class RayConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Rollouts by Ray workers, on this machine or on a cluster; see docs/distributed.md."""

    workers: int = Field(default=0, ge=0)
    """Processes that step num_envs / workers environments each; 0: none, and no Ray."""
    cpus_per_worker: float = Field(default=1.0, ge=0)
    """Processors that Ray reserves for a worker when it chooses its machine."""
    mode: Literal["sync", "async"] = "sync"
    """sync: wait for all workers, results as without Ray; async: for `rollouts_per_update`."""
    rollouts_per_update: int = Field(default=1, gt=0)
    """Rollouts that one update waits for in async mode: workers that it learns from at a time."""
    max_policy_lag: int | Literal["auto"] | None = "auto"
    """Most updates a rollout may be late in async mode; auto: twice what is usual; null: any."""
    address: str | None = None
    """A cluster: auto or HOST:PORT; null: $RAY_ADDRESS, which a submitted job has, or none."""
    runtime_env: dict[str, Any] = {}
    """Ray's runtime_env for the workers: packages, variables, folders to send along."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """Seconds a rollout may take, its worker's start included, before the worker is replaced."""
    max_restarts: int = Field(default=100, ge=0)
    """Workers replaced and groups of columns reopened, all together, before the run gives up."""

    @field_validator("address")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        if value not in (None, "auto") and not re.fullmatch(r"[^/]+:\d+", value):
            raise ValueError("expected auto or HOST:PORT")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        """Every lag of N workers that learn k at a time is at least ceil(N / k) - 1."""
        if self.mode == "sync" or not self.workers:
            return self
        per_update, lag = self.rollouts_per_update, self.usual_lag
        if per_update > self.workers:
            raise ValueError(f"rollouts_per_update={per_update}: there are workers={self.workers}")
        if isinstance(self.max_policy_lag, int) and self.max_policy_lag < lag:
            raise ValueError(
                f"max_policy_lag={self.max_policy_lag}: expected at least {lag}, because "
                f"{self.workers} workers take turns, rollouts_per_update={per_update} at a time"
            )
        return self

    @property
    def usual_lag(self) -> int:
        """Updates that a rollout is late when all workers are equally fast: ceil(N / k) - 1."""
        return -(-self.workers // self.rollouts_per_update) - 1


class LearnerConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How many learn together, and how precisely; see docs/learners.md."""

    count: int = Field(default=1, gt=0)
    """Learners that share each minibatch, one a process (on GPUs one a GPU); the sums are one's."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products and convolutions while learning; bfloat16 pays on GPUs made for it."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """Seconds a learner may keep the others waiting before the run ends with an error."""


class BlockError(ValueError):
    """What is wrong with a block, and its position."""

    def __init__(self, index: int, error: ValueError) -> None:
        super().__init__(f"block {index}: {error}")
        self.index, self.error = index, error


class Config(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A training run."""

    env: EnvConfig = EnvConfig()
    """Environment: `env=NAME`, a Gymnasium id or `module:Id`."""
    agent: SerializeAsAny[AgentConfig] = Field(
        default_factory=lambda: agent_class("ppo").Config.model_validate({})
    )
    """Algorithm: `agent=NAME` or a dotted module of one's own."""
    network: NetworkConfig = NetworkConfig()
    """Backbone: `network=NAME`, a list of blocks."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Everything random derives from it: weights, environments, exploration, minibatches."""
    total_steps: int = Field(default=100_000, gt=0)
    """Environment steps of the run, all environments together."""
    num_envs: int = Field(default=8, gt=0)
    """Environments stepped together (columns of a rollout)."""
    groups: int = Field(default=1, gt=0)
    """Groups that the environments are stepped in, in turn; the results don't depend on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where learning happens; auto: a GPU if there is one."""
    threads: int = Field(default=1, gt=0)
    """Threads of PyTorch's products; small networks are fastest with one."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile for the update; auto: where the run is long enough to repay 10 to 50 s."""
    profile: bool = False
    """Say at the end which shares of the time went to environments, acting, learning, the rest."""
    run_dir: str | None = Field(default=None, min_length=1)
    """The run's folder; null: runs/ENV/AGENT-NETWORK/TIME-sSEED."""
    log_interval_steps: int = Field(default=1_000, gt=0)
    """Environment steps between lines of metrics.jsonl."""
    eval: EvalConfig = EvalConfig()
    """Evaluation."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""
    learner: LearnerConfig = LearnerConfig()
    """Learners."""
    ray: RayConfig = RayConfig()
    """Ray."""

    @field_validator("agent", mode="before")
    @classmethod
    def _agent(cls, value: Any) -> Any:
        """Let `agent.name` choose the class that reads the rest of its section."""
        if not isinstance(value, dict):
            return value
        name = value.get("name", "ppo")
        if not isinstance(name, str):
            raise ValueError(f"name={name}: expected the name of an agent")
        return _strict(agent_class(name).Config, value | {"name": name})

    @field_validator("network", mode="before")
    @classmethod
    def _network(cls, value: Any) -> Any:
        """Let each block's `name` choose the class that reads the rest of it."""
        if not isinstance(value, dict) or not isinstance(value.get("blocks"), list):
            return value
        return value | {"blocks": tuple(map(_block, range(len(value["blocks"])), value["blocks"]))}

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.num_envs % self.groups:
            raise ValueError(
                f"groups={self.groups}: expected a divisor of num_envs={self.num_envs}, "
                "because the groups are of one size"
            )
        if self.ray.workers:
            self._distributable()
        elif self.ray.mode == "async":
            raise ValueError("ray.mode=async: expected workers, ray.workers=2 for instance")
        return self

    def _distributable(self) -> None:
        workers = self.ray.workers
        if self.num_envs % workers:
            raise ValueError(
                f"ray.workers={workers}: expected a divisor of num_envs={self.num_envs}, "
                "because each has as many environments"
            )
        if self.groups > 1:
            raise ValueError(f"groups={self.groups}: expected 1, for ray.workers are the groups")
        if self.ray.mode == "async" and not agent_class(self.agent.name).asynchronous:
            other = "agent=appo or " if self.agent.name == "ppo" else ""
            raise ValueError(
                f"ray.mode=async: agent={self.agent.name} learns from its newest weights and all "
                f"environments only; use {other}ray.mode=sync"
            )


def _strict(config: type[BaseModel], data: dict[str, Any]) -> BaseModel:
    """Validate YAML's types: lists serve as tuples, integers as floats, no more."""
    return config.model_validate_json(json.dumps(data), strict=True)


def _block(index: int, data: Any) -> Any:
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return data
    try:
        return _strict(block_class(data["name"]).Config, data)
    except ValueError as error:
        raise BlockError(index, error) from error
