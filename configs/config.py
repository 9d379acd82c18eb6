"""The whole configuration of a run: what `config.yaml` in its folder says."""

import json
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny, field_validator, model_validator

from ..agents.choices import agent_class, agents_that
from ..agents.setup import AgentConfig
from ..core.secret_values import masked
from ..envs.config import EnvConfig
from ..networks import NetworkConfig, block_class
from ..networks.transfer.transfer import InitConfig
from .sections import (
    CheckpointConfig,
    EvalConfig,
    LearnerConfig,
    PrometheusConfig,
    RayConfig,
    TensorBoardConfig,
    WandbConfig,
)

BLOCKS = "blocks", "critic"
"""The keys of the network that hold lists of blocks."""


class BlockError(ValueError):
    """The error of one block, the key of its list in the network, and its position there."""

    def __init__(self, key: str, index: int, error: ValueError) -> None:
        super().__init__(f"{key}.{index}: {error}")
        self.key, self.index, self.error = key, index, error


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
    init: InitConfig = InitConfig()
    """The weights that it starts from."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of everything random: weights, environments, exploration, minibatches."""
    total_steps: int = Field(default=100_000, gt=0)
    """Environment steps of the run, all environments together; the last rollout is whole."""
    num_envs: int = Field(default=8, gt=0)
    """Environments stepped together (columns of a rollout)."""
    groups: int = Field(default=1, gt=0)
    """Groups of environments that are stepped one after the other; results depend on it in
    last digits at most."""
    overlap: bool = False
    """Collect the next rollout while learning, in a process of its own: its policy is one update
    older than the one that learns from it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where learning happens; auto: a GPU if there is one."""
    threads: int = Field(default=1, gt=0)
    """Threads of PyTorch's products; small networks are fastest with one."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the update; auto: where the run is long enough to repay 5 to 30 s."""
    profile: bool = False
    """Say at the end how much of the time environments, acting, learning and the rest took."""
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
    tensorboard: TensorBoardConfig = TensorBoardConfig()
    """TensorBoard."""
    prometheus: PrometheusConfig = PrometheusConfig()
    """Prometheus."""
    learner: LearnerConfig = LearnerConfig()
    """Learners."""
    ray: RayConfig = RayConfig()
    """Ray."""

    @field_validator("agent", mode="before")
    @classmethod
    def _agent(cls, value: Any) -> Any:
        """Let `agent.name` choose the class that reads the section."""
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
        if not isinstance(value, dict):
            return value
        lists = {key: value[key] for key in BLOCKS if isinstance(value.get(key), list)}
        read = {
            key: tuple(_block(key, index, block) for index, block in enumerate(blocks))
            for key, blocks in lists.items()
        }
        return value | read

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.num_envs % self.groups:
            raise ValueError(
                f"groups={self.groups}: expected a divisor of num_envs={self.num_envs}, "
                "because the groups are of one size"
            )
        size = self.num_envs // self.groups
        if (self.env.processes or 1) > size:
            raise ValueError(
                f"env.processes={self.env.processes}: expected at most {size}, one for each "
                f"environment (num_envs={self.num_envs}, groups={self.groups})"
            )
        if self.overlap:
            self._overlappable()
        if self.ray.workers:
            self._distributable()
        elif self.ray.mode == "async":
            raise ValueError("ray.mode=async: expected sync, or ray.workers=2 for instance")
        if not agent_class(self.agent.name).learns_policy:
            for key in ("interval_steps", "patience", "video_interval_steps", "mode"):
                value, unused = getattr(self.eval, key), "inline" if key == "mode" else 0
                if value not in ("auto", unused):
                    raise ValueError(
                        f"eval.{key}={value}: expected {unused}, agent={self.agent.name} learns no "
                        "policy"
                    )
        return self

    def stored(self) -> dict[str, Any]:
        """The settings as JSON has them, to be stored and shown: without secrets."""
        return masked(self.model_dump(mode="json"))

    def block_names(self) -> list[str]:
        """The names of the network's blocks; none if the agent has no network."""
        has_network = agent_class(self.agent.name).has_network
        return [block.name for block in self.network.blocks] if has_network else []

    def named(self, *keys: str) -> str:
        """Those of the keys that there are, joined by "or", whole numbers with their values."""
        found = []
        for key in keys:
            value: Any = self
            for part in key.split("."):
                value = getattr(value, part, None)
            if value is not None:
                found.append(f"{key}={value}" if isinstance(value, int) else key)
        return " or ".join(found)

    def _overlappable(self) -> None:
        if self.ray.workers:
            raise ValueError(
                f"ray.workers={self.ray.workers}: expected 0 with overlap=true; without that, "
                "ray.mode=async lets workers collect while the agent learns"
            )
        agent = agent_class(self.agent.name)
        if not (agent.late or agent.asynchronous):
            why = f" ({agent.why_not_late})" if agent.why_not_late else ""
            others = agents_that(lambda a: a.rewarded and (a.late or a.asynchronous))
            raise ValueError(
                f"overlap=true: agent={self.agent.name} learns from its newest weights only{why}; "
                f"use overlap=false, or {others}"
            )

    def _distributable(self) -> None:
        workers = self.ray.workers
        if self.num_envs % workers:
            raise ValueError(
                f"ray.workers={workers}: expected a divisor of num_envs={self.num_envs}, "
                "because each has as many environments"
            )
        if self.groups > 1:
            raise ValueError(
                f"groups={self.groups}: expected 1, for ray.workers={workers} are the groups; "
                "ray.workers=0 is without Ray"
            )
        if self.env.vectorization == "async":
            raise ValueError(
                "env.vectorization=async: expected another with ray.workers, which are processes "
                "already; use env.vectorization=auto, or no Ray"
            )
        if self.ray.mode == "async" and not agent_class(self.agent.name).asynchronous:
            others = agents_that(lambda agent: agent.asynchronous)
            raise ValueError(
                f"ray.mode=async: agent={self.agent.name} learns from its newest weights and all "
                f"environments only; use ray.mode=sync, or {others}"
            )


def _strict(config: type[BaseModel], data: dict[str, Any]) -> BaseModel:
    """Validate YAML's types: lists serve as tuples, integers as floats, no more."""
    return config.model_validate_json(json.dumps(data), strict=True)


def _block(key: str, index: int, data: Any) -> Any:
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return data
    try:
        return _strict(block_class(data["name"]).Config, data)
    except ValueError as error:
        raise BlockError(key, index, error) from error
