"""What stands between an environment and the agent, as its config says.

`make` puts it around environments. Those who step an environment themselves call it:

interface = Interface(config, env.observation_space, env.action_space)
seen, past = interface.observe(obs, first, past)       [B,*], as the agent sees it
env.step(interface.to_environment(action))             as the environment takes it
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from ...core.action_mask import NAME
from ...core.tree import Tree, map_tree
from ..config import EnvConfig
from ..observations import Space, batch, checked_kind, supported, with_layout
from . import transforms
from .action_masks import ActionMasks, beside_mask
from .actions import of_actions
from .given_observations import GivenObservations, array_of
from .last_action import LastAction
from .transforms import Transform


class Past(NamedTuple):
    """What an observation of the agent has of earlier steps."""

    frames: Tree
    """The last observations, a tree [B,S,*]; () without a stack."""
    action: np.ndarray | None
    """The agent's last action [B,*]; None before the first one."""


class Interface:
    """Makes the agent's observations of the environment's, and the environment's actions.

    Args:
        config: The settings of the wrappers.
        observation_space: Of one environment, without these wrappers.
        action_space: Of one environment.

    Attributes:
        config: See the arguments.
        env_id: Of the environment.
        spaces: The two spaces of the arguments.
        given_space: Of observations with their stack and mask, before the transforms.
        of_obs: The transforms of observations, one after the other.
        of_action: From the agent's actions to the environment's; None where they are the same.
        last_action: Puts the last action beside observations; None: it is not seen.
        observation_space: Of the agent.
        action_space: Of the agent.
    """

    def __init__(self, config: EnvConfig, observation_space: Space, action_space: Space) -> None:
        self.env_id = config.id
        self.spaces = observation_space, action_space
        self.config = config
        own = supported(observation_space, f"{config.id}: observation_space")
        self._given = GivenObservations(own, config.id, values=config.check != "never")
        self._masks: tuple[int, ActionMasks] | None = None  # for as many as the last call had
        space = observation_space
        if config.frame_stack > 1:
            space = batch_space(space, config.frame_stack)
        self._stacked_space = space
        if config.action_mask:
            space = ActionMasks(config, space, action_space).space
        self.given_space = with_layout(supported(space, f"{config.id}: observation_space"), config)
        self.of_obs = of_observations(self.given_space, config)
        self.of_action = _of_actions(action_space, config)
        self.observation_space = self.of_obs[-1][0] if self.of_obs else self.given_space
        self.action_space = self.of_action[0] if self.of_action else action_space
        self.last_action: LastAction | None = None
        if config.last_action:
            self.last_action = LastAction(
                self.observation_space, self.action_space, config.reward_scale, config.reward_clip
            )
            self.observation_space = self.last_action.space

    def __reduce__(self) -> Any:
        """What pickles it: its arguments, for transforms are functions without a name."""
        return Interface, (self.config, *self.spaces)

    def rows(self, obs: Any) -> tuple[Tree, bool]:
        """The environment's observations as a tree [B,*], and whether there was one only.

        Raises:
            ValueError: See `GivenObservations`.
        """
        return self._given(obs)

    def observe(
        self, obs: Tree, first: np.ndarray, past: Past | None, mask: Any, reward: Any
    ) -> tuple[Tree, Past]:
        """The observations as the agent sees them, and what the next ones have of these.

        Args:
            obs: From `rows`.
            first: [B] bool: they open an episode.
            past: Of the step before, with the action that was taken there; None: there was none.
            mask: The action masks [B,n], if `env.action_mask=info`; else None.
            reward: The rewards [B] of that action, or one for all; used by `env.last_action`.

        Raises:
            ValueError: A mask or a reward is missing, or is none.
        """
        past = past or Past((), None)
        frames: Tree = ()
        if self.config.frame_stack > 1:
            obs = frames = self._stacked(obs, first, past.frames)
        obs = self._masked(obs, len(first), mask)
        obs = batch(self.given_space, obs)
        for _, function in self.of_obs:
            obs = function(obs)
        if self.last_action is not None:
            if reward is None and past.action is not None and not first.all():
                raise ValueError(
                    "predict: the run has env.last_action=true; give the reward of the last action"
                )
            gained = array_of(0.0 if reward is None else reward, "reward")
            if gained.shape not in ((), first.shape) or not np.isfinite(gained).all():
                raise ValueError(
                    f"predict: reward is {gained.tolist()}; expected a finite number for each of "
                    f"{len(first)} environments"
                )
            gained = np.broadcast_to(gained, first.shape)
            obs = self.last_action(obs, past.action, gained, first)
        return obs, Past(frames, past.action)

    def _stacked(self, obs: Tree, first: np.ndarray, frames: Tree) -> Tree:
        """The stack [B,S,*] with a new frame; where an episode opens, of this frame alone."""
        count = self.config.frame_stack

        def stack(new: np.ndarray, old: np.ndarray | None) -> np.ndarray:
            filled = np.repeat(new[:, None], count, 1)
            if old is None:
                return filled
            moved = np.concatenate([old[:, 1:], new[:, None]], 1)
            return np.where(first.reshape(-1, *[1] * new.ndim), filled, moved)

        if isinstance(frames, tuple) and not frames:
            return map_tree(lambda new: stack(new, None), obs)
        return map_tree(stack, obs, frames)

    def _masked(self, obs: Tree, count: int, mask: Any) -> Tree:
        """The observations with their masks; one that forbids everything forbids nothing.

        Only the last mask of an episode may do that, and which one is the last is not known here.
        """
        by_info = self.config.action_mask == "info"
        if mask is not None and not by_info:
            word = self.config.action_mask
            raise ValueError(
                f"predict: action_mask is given, but the run has env.action_mask={word}"
            )
        if self.config.action_mask is None:
            return obs
        if by_info and mask is None:
            raise ValueError(
                "predict: the run has env.action_mask=info; give action_mask=info['action_mask']"
            )
        if self._masks is None or self._masks[0] != count:
            spaces = self._stacked_space, self.spaces[1]
            self._masks = count, ActionMasks(self.config, *spaces, (count,))
        return self._masks[1](obs, {NAME: mask}, np.ones(count, bool))

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        """The agent's actions [B,*] as the environment takes them."""
        if self.of_action is not None:
            action = self.of_action[1](action)
        return action.astype(self.spaces[1].dtype, copy=False)


def of_observations(space: Space, config: EnvConfig) -> list[Transform]:
    """From the environments' observations to the agent's, one transform after the other."""
    of_obs: list[Transform] = []
    positions = partial(transforms.without_velocity, env_id=config.id)
    for wanted, build in (
        (True, transforms.count_from_zero),
        (config.mask_velocity, partial(beside_mask, positions)),
        (config.frame_stack > 1, transforms.join_frames),
        (config.flatten, partial(beside_mask, transforms.flatten)),
    ):
        transform = build(space) if wanted else None
        if transform is not None:
            of_obs.append(transform)
            space, _ = transform
    return of_obs


def _of_actions(space: Space, config: EnvConfig) -> Transform | None:
    """From the agent's actions to the environments'; None where they are the same.

    Raises:
        ValueError: No agent knows such actions.
    """
    what = f"{config.id}: action_space"
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise ValueError(f"{what} is a {type(space).__name__}; flatten it in a wrapper of your own")
    return of_actions(checked_kind(space, what), config.rescale_actions)
