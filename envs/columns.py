"""Makes the columns that `SyncEnvs` steps: single environments with their wrappers and seeds."""

from __future__ import annotations

from gymnasium import wrappers as gym_wrappers
from gymnasium.envs.registration import EnvSpec

from ..core.memory import lower
from .config import EnvConfig
from .drawing import NOTHING, Drawing
from .episodes import Column
from .observations import Space, supported
from .single import building, make_single
from .sync import SyncEnvs
from .wrappers.action_masks import ActionMasks, Masked

OwnSpaces = tuple[Space, Space]
"""Of observations and of actions, of one environment before stacks, masks and transforms."""


def make_sync(
    config: EnvConfig, spec: EnvSpec, seed: int, columns: range, drawing: Drawing = NOTHING
) -> tuple[SyncEnvs, OwnSpaces]:
    """The environments of some columns in this process; arguments and errors as of `make`."""
    made, spaces = [], []
    drawing.prepare(config, spec)
    for index, number in enumerate(columns):
        with building(config), lower(f"num_envs={columns.stop - columns.start}"):
            env = make_single(config, spec, drawing.mode)
            spaces.append((env.observation_space, env.action_space))
            if config.frame_stack > 1:
                env = gym_wrappers.FrameStackObservation(env, config.frame_stack)
            if index == 0:
                env = drawing.around(env)
        if config.action_mask:
            env = Masked(env, ActionMasks(config, env.observation_space, env.action_space))
        with building(config):
            made.append(Column(env, seed, number, config.reseed == "once", config.levels))
    if len({id(column.env.unwrapped) for column in made}) < len(made):
        raise ValueError(
            f"env.id={config.id!r}: several columns got the same environment; the function must "
            "make a new one each time"
        )
    space = supported(made[0].env.observation_space, f"{config.id}: observation_space")
    return SyncEnvs(made, space, config.id, config.check), spaces[0]
