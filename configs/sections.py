"""The sections of the configuration that belong to the run itself.

The others (agent, environment, blocks of the network) stand beside the code that they configure.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

Interval = Annotated[int, Field(ge=0)] | Literal["auto"]


class EvalConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When the greedy policy is evaluated, where, and in how many episodes."""

    mode: Literal["inline", "worker"] = "inline"
    """inline: training waits for each evaluation; worker: another process plays those in training,
    with the same results, and one at a time."""
    interval_steps: Interval = "auto"
    """Steps between evaluations, the first at step 0; the best after it is checkpoint `best`. auto:
    10,000, or five rollouts or a twentieth of the run where they are more; 0: only at the end."""
    episodes: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Episodes of one evaluation during training; auto: 10, or fewer where they would take more
    than half the steps of training between two evaluations."""
    final_episodes: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Episodes of the evaluation that ends the run and fills summary.json; auto: 100, or fewer
    where they would take more than half the steps of training."""
    max_episode_steps: Annotated[int, Field(gt=0)] | Literal["auto"] | None = "auto"
    """Steps after which an evaluation cuts an episode and counts it in `evaluate/cut`; auto: 10,000
    where the id names no limit; null: none."""
    patience: int = Field(default=0, ge=0)
    """Evaluations without a return above the best so far, step 0's too, after which the run is
    stopped; 0: any number."""
    video_interval_steps: int = Field(default=0, ge=0)
    """Steps between videos of one more episode, made with the next evaluation. 0: none."""

    @model_validator(mode="after")
    def _evaluates(self) -> Self:
        needing = {
            "video_interval_steps": (0, "films come with evaluations"),
            "patience": (0, "it counts evaluations"),
            "mode": ("inline", "a worker plays evaluations in training"),
        }
        for key, (unused, why) in needing.items():
            value = getattr(self, key)
            if value != unused and not self.interval_steps:
                raise ValueError(
                    f"{key}={value}: expected {unused}, because {why} and interval_steps=0 has none"
                )
        return self


class CheckpointConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When the run is saved, and what is kept."""

    interval_steps: Interval = "auto"
    """Environment steps between checkpoints: the most that a crash can cost. auto: 50,000, or five
    rollouts where they are more; 0: only at the end."""
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
    name: str | None = None
    """Name of the run; null: ENV-AGENT-NETWORK-sSEED."""
    group: str | None = None
    """Group that the run belongs to; null: none."""
    job_type: str | None = None
    """Kind of run within the group; null: none."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    notes: str | None = None
    """A note about the run, in your own words; null: none."""
    artifacts: bool = False
    """Upload checkpoints as artifacts with the aliases `best` and `last`; offline they stay."""
    histogram_interval_steps: int = Field(default=0, ge=0)
    """Steps between histograms of weights and gradients. 0: none."""


class TensorBoardConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """TensorBoard, another mirror of metrics.jsonl."""

    enabled: bool = False
    """Write an event file into `tensorboard/` in the run's folder, too."""


class PrometheusConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The newest metrics for Prometheus; see docs/prometheus.md."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port at which Prometheus asks for the run's newest metrics; null: none."""
    address: str = Field(default="127.0.0.1", min_length=1)
    """Address of this machine at which the port is open; 0.0.0.0: all, for everybody who asks."""


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
    """Most updates that a rollout may be late in async mode; auto: twice the usual; null: any."""
    address: str | None = None
    """A cluster: auto or HOST:PORT; null: $RAY_ADDRESS, which a submitted job has, or none."""
    dashboard: bool = False
    """Start Ray's dashboard, too, for this machine only; not with a cluster, which has its own."""
    compression: Literal["none", "zlib"] = "none"
    """zlib: the images of rollouts are compressed, for workers on other machines."""
    runtime_env: dict[str, Any] = {}
    """Ray's runtime_env for the workers: packages, variables, folders to send along."""
    start_timeout_seconds: float = Field(default=600.0, gt=0)
    """Seconds a worker may take to start with its environments; its machine may have to come."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """Seconds a rollout may take before its worker is replaced."""
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
        """With N workers, k of them in an update, the lag is at least ceil(N / k) - 1."""
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
    """Learners that share each minibatch, each in a process; on GPUs, each on one of its own."""
    placement: Literal["driver", "actor"] = "driver"
    """Where the first of them is: in the run's own process, or in a Ray actor, on a machine of the
    cluster that has a GPU."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Precision of matrix products while learning; tf32 (on a CPU as float32) and bfloat16 are
    faster on GPUs made for them."""
    deterministic: bool = False
    """Let a GPU give the same numbers in each run, by slower operations; a CPU always does."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """Seconds a learner may keep the others waiting before the run ends with an error."""
