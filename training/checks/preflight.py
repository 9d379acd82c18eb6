"""Checks before a run: that all is installed, that it can film and evaluate, that seeds repeat.

Also notes before a run: how images are read, and which action masks it does not use.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from gymnasium import spaces

from ...agents.agent import Agent
from ...configs import Config
from ...core.action_mask import NAME, mask_at, mask_path, random_action
from ...core.errors import EnvError, installed, require
from ...core.images import ImageSpace, image_space
from ...core.tree import leaves
from ...envs import make
from ...envs.drawing import Drawing
from ...networks.backbone import block_class
from ...networks.observation import leaf_spaces
from ..evaluator import episode_limit
from ..storage import random_state
from ..storage.intervals import interval

_log = logging.getLogger(__name__)

STEPS, SECONDS = 64, 2.0
"""The check that seeds repeat: its steps at most, and the most seconds for the first play."""


def check_installed(cfg: Config) -> None:
    """Raises ValueError if a setting needs an extra that is not installed."""
    if cfg.ray.workers:
        require(f"ray.workers={cfg.ray.workers}", "ray")
    if cfg.learner.count > 1:
        require(f"learner.count={cfg.learner.count}", "ray")
    if cfg.learner.placement == "actor":
        require("learner.placement=actor", "ray")
    if cfg.wandb.mode == "online":
        require("wandb.mode=online", "wandb")


def try_film(cfg: Config) -> None:
    """Raises ValueError if the environment cannot be filmed: rather now than in the run."""
    try:
        film(cfg)
    except EnvError as error:
        key = f"eval.video_interval_steps={cfg.eval.video_interval_steps}"
        raise ValueError(f"{key}: {error}") from error


def film(cfg: Config) -> None:
    """Films the start of an episode, and throws it away. Raises ValueError or EnvError."""
    with tempfile.TemporaryDirectory() as folder:
        drawing = Drawing(video=str(Path(folder, "films")))
        with closing(make(cfg.env, 1, cfg.seed, drawing=drawing)) as envs:
            envs.reset()


def try_evaluation(cfg: Config) -> None:
    """Raises ValueError if no environment can be opened beside training's, which are open."""
    if not 0 < interval("eval", cfg) <= cfg.total_steps:
        return
    config = cfg.env.for_evaluation(time_limit=episode_limit(cfg))
    try:
        with random_state.kept(), closing(make(config, 1, cfg.seed)) as envs:
            envs.reset()
    except (ValueError, EnvError) as error:
        raise ValueError(
            f"eval.interval_steps={cfg.eval.interval_steps}: evaluations open environments beside "
            f"training's, and that fails: {error}; eval.interval_steps=0 evaluates only at the "
            "end, when training's are closed"
        ) from error


def note_randomness(cfg: Config) -> None:
    """Warns if the first episode, opened again with its seed, goes another way.

    Where opening and playing it takes long, or fails, nothing is said: training goes its own way.
    """
    try:
        found = randomness(cfg)
    except EnvError:
        return
    if found is not None:
        _log.warning("%s", found)


def randomness(cfg: Config) -> str | None:
    """What to say if the first episode, opened again with its seed, goes another way.

    None where it does not, and where playing it takes long. Raises EnvError if it fails.
    """
    begin = time.monotonic()
    with random_state.kept():
        first = _play(cfg)
        if time.monotonic() - begin > SECONDS:
            return None
        second = _play(cfg)
    pairs = enumerate(zip(first, second, strict=True))
    step = next((step for step, (one, other) in pairs if one != other), None)
    if step is None:
        return None
    return (
        f"{cfg.env.id} does not repeat itself: opened again, with the same seed and actions, it "
        f"gave something else at {f'step {step}' if step else 'the reset'}. It has randomness that "
        "is not from np_random: runs with the same seed will differ, and resumed ones open new "
        "episodes"
    )


def note_mask(cfg: Config, space: spaces.Space) -> None:
    """Warns if the environment gives action masks that the run does not use; see `unused_mask`."""
    if found := unused_mask(cfg, space):
        _log.warning("%s", found)


def unused_mask(cfg: Config, space: spaces.Space) -> str | None:
    """What to say if the environment gives action masks that the run does not use.

    Args:
        cfg: Of the run.
        space: Observations, as the agent sees them.
    """
    if cfg.env.action_mask is not None:
        return None
    source = NAME if isinstance(space, spaces.Dict) and NAME in space.spaces else "info"
    probe = cfg.env.model_copy(update={"action_mask": source})
    try:
        with random_state.kept(), closing(make(probe, 1, cfg.seed)) as envs:
            envs.reset()
    except (ValueError, EnvError):  # there is no mask
        return None
    return (
        f"{cfg.env.id} says in each step which actions are possible, and this run does not look at "
        f"it; env.action_mask={source} lets the agent choose among those only"
    )


def notes(cfg: Config, agent: Agent) -> tuple[str, ...]:
    """What is said of a run before it starts, a line each."""
    found = [*agent.notes]
    if cfg.wandb.mode == "offline" and not installed("wandb"):
        found.append(
            "nothing is written for W&B: wandb is not installed (pip install 'neuraxis[wandb]', or "
            "wandb.mode=disabled)"
        )
    if agent.freezing is not None:
        columns = agent.setup.rollout_columns or agent.setup.num_envs
        compiled = agent.execution == "compiled"
        found += agent.freezing.notes(compiled, agent.rollout_length * columns)
    return (*found, *image_notes(agent.setup.observation_space, cfg))


def image_notes(space: spaces.Space, cfg: Config) -> Iterator[str]:
    """One line for each thing that was decided for images and that may be meant otherwise.

    Args:
        space: Observations, as the agent sees them.
        cfg: Of the run.
    """
    leaves = ((path, image_space(leaf)) for path, leaf in leaf_spaces(space))
    images = {
        "".join(["observation", *(f"[{key!r}]" for key in path)]): image
        for path, image in leaves
        if image is not None
    }
    pictures = ", ".join(name for name, image in images.items() if image.is_picture)
    if any(block_class(block.name).reads_images for block in cfg.network.blocks):
        if cfg.env.image_layout == "auto":
            yield from filter(None, map(layout, images, images.values()))
    elif pictures:
        yield f"this network sees pictures as long vectors ({pictures}); network=cnn sees pictures"
    if pictures and getattr(cfg.agent, "normalize_observations", False):
        yield (
            f"agent.normalize_observations=true leaves pictures as they are ({pictures}): "
            "the network divides them by the bound of their space"
        )


def layout(name: str, image: ImageSpace) -> str | None:
    """What to say of how an image with channels is read; None if it has no axis of channels."""
    if image.channel_axis is None:
        return None
    last = image.channel_axis == -1
    *pixels, channels = image.shape if last else (*image.shape[1:], image.shape[0])
    return (
        f"{name} {image.shape} is read as {pixels[0]}x{pixels[1]} pixels with {channels} channels; "
        f"if that is wrong, use env.image_layout={'chw' if last else 'hwc'}"
    )


def _play(cfg: Config) -> list[bytes]:
    """What the environment gave, row 0 at its reset, in STEPS steps with random actions."""
    with closing(make(cfg.env, 1, cfg.seed)) as envs:
        path, rows = mask_path(envs.observation_space), [envs.reset()]
        for _ in range(STEPS):
            mask = mask_at(envs.obs, path)
            action = random_action(envs.action_space, None if mask is None else mask[0])
            rows.append(envs.step(action[None]))
    return [b"".join(np.asarray(leaf).tobytes() for leaf in leaves(row)) for row in rows]
