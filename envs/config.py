"""The settings of environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, model_validator

from ..core.images import Layout

When = Literal["auto", "always", "never"]


class AtariConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How ALE's frames become observations [stack, size, size] uint8."""

    frame_skip: int = Field(default=4, gt=0)
    """Frames an action is held for; the last two are max-pooled."""
    stack: int = Field(default=4, gt=0)
    """Grey frames in an observation, one every `frame_skip`."""
    noop_max: int = Field(default=30, ge=0)
    """Most idle frames at the start of an episode; their number is random: starts differ."""
    size: int = Field(default=84, gt=0)
    """Height and width in pixels."""
    sticky: float = Field(default=0.25, ge=0, lt=1)
    """Probability of repeating the last action (0.25: Machado et al. 2018; 0: Mnih et al. 2015)."""
    episodic_life: bool = False
    """A lost life ends the episode, and the game goes on in the next one; in training only. Logged
    returns and lengths are then those of single lives."""
    fire_reset: bool = True
    """Presses fire at the start where the game waits for it."""
    max_frames: int = Field(default=108_000, gt=0)
    """Frames after which an episode is truncated (30 minutes of play)."""


class EnvConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One environment and what the agent sees of it."""

    id: str = "CartPole-v1"
    """A Gymnasium id, or `module:Id` to import the module that registers it, or has its class."""
    kwargs: dict[str, Any] = {}
    """Arguments of the environment's constructor."""
    vectorization: Literal["auto", "sync", "async", "native"] = "auto"
    """sync: one after the other; async: in processes; native: the environment's own vector form;
    auto: native for those of Gymnasium and ALE, and where there is no other form, else sync."""
    processes: int | None = Field(default=None, gt=0)
    """Processes of vectorization=async; null: one a core, at most one an environment."""
    time_limit: int | None = Field(default=None, gt=0)
    """Steps after which an episode is truncated; null: the id's own limit."""
    image_layout: Layout = "auto"
    """Axes of images: hwc (rows, columns, channels) or chw (channels, rows, columns); auto: guessed
    from their sizes, and said at the start."""
    reseed: Literal["episode", "once"] = "episode"
    """episode: each episode opens with a seed of its own; once: only the first of an environment,
    for those that draw their task from it, and evaluations open with the seeds of training."""
    levels: int | None = Field(default=None, gt=0)
    """How many levels training has: each episode takes the seed of one of them, so that maps,
    starts or tasks repeat. Evaluations take other seeds. null: every episode has its own."""
    frame_stack: int = Field(default=1, gt=0)
    """Last observations seen together, joined along the channels."""
    mask_velocity: bool = False
    """Hides the velocities, so that memory is needed."""
    flatten: bool = False
    """Joins the observation to one vector of floats; Discrete parts become one-hot."""
    rescale_actions: bool = True
    """Bounded Box actions are [-1, 1] to the agent, clipped and scaled; false: clipped only."""
    action_mask: str | None = Field(default=None, min_length=1)
    """Which actions are possible: `info` takes info["action_mask"]; else the key of a Dict
    observation that has the mask. null: all are."""
    last_action: bool = False
    """Adds the last action and its reward to the observation, for networks with memory."""
    reward_scale: float = 1.0
    """Factor of the reward that the agent learns from; logged returns stay raw."""
    reward_clip: float | None = Field(default=None, gt=0)
    """Limit of the scaled reward's size, so that one learning rate suits many games."""
    check: When = "auto"
    """Whether observations lie in their space: auto looks at the first 1,000 steps, and then at
    every 101st."""
    atari: AtariConfig = AtariConfig()
    """Preprocessing of ALE ids."""
    _maker: Callable[..., Any] | None = PrivateAttr(default=None)

    @property
    def maker(self) -> Callable[..., Any] | None:
        """What makes an environment, where a program gave that instead of an id."""
        return self._maker

    @property
    def stacked(self) -> int:
        """S, the frames that an image of the observations stacks; 1: it is no stack."""
        atari = self.id.rpartition(":")[2].startswith("ALE/")
        return self.atari.stack if atari and self.frame_stack == 1 else self.frame_stack

    def made_by(self, maker: Callable[..., Any] | None) -> EnvConfig:
        """The same settings with what makes an environment, which is not stored with a run."""
        config = self.model_copy()
        assert config.__pydantic_private__ is not None
        config.__pydantic_private__["_maker"] = maker
        return config

    @model_validator(mode="after")
    def _opens(self) -> Self:
        if self.levels and self.reseed == "once":
            raise ValueError(
                f"levels={self.levels}: expected null with reseed=once, where the first episode "
                "alone has a seed"
            )
        if self.processes and self.vectorization != "async":
            raise ValueError(
                f"processes={self.processes}: expected null with "
                f"vectorization={self.vectorization}; vectorization=async has processes"
            )
        return self

    def for_evaluation(self, filmed: bool = False, time_limit: int | None = None) -> EnvConfig:
        """The same environment with whole games and any opening; not native if it is `filmed`.

        Args:
            filmed: whether single environments are needed.
            time_limit: steps after which its episodes are cut; None: as in training.
        """
        atari = self.atari.model_copy(update={"episodic_life": False})
        limit = time_limit or self.time_limit
        changes = {"atari": atari, "levels": None, "time_limit": limit}
        return self.model_copy(update=changes | ({"vectorization": "sync"} if filmed else {}))
