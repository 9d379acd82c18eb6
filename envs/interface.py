"""What stands between an environment and the agent, for those who step the environment themselves.

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

from ..core.action_mask import NAME
from ..core.errors import EnvError
from ..core.tree import Tree, map_tree
from .config import EnvConfig
from .observation_check import ObservationCheck
from .observations import Space, batch, checked_kind, supported, with_layout
from .wrappers import transforms
from .wrappers.action_masks import ActionMasks, beside_mask
from .wrappers.actions import of_actions
from .wrappers.last_action import LastAction
from .wrappers.transforms import Transform


class Past(NamedTuple):
    """What an observation of the agent has of earlier steps."""

    frames: Tree
    """The last observations, a tree [B,S,*]; () without a stack."""
    action: np.ndarray | None
    """The agent's last action [B,*]; None before the first one."""


class Interface:
    """Makes the agent's observations and the environment's actions as `make` does, step by step.

    Args:
        config: The settings of the wrappers.
        observation_space: Of one environment, without these wrappers.
        action_space: Of one environment.

    Attributes:
        spaces: These two.
        observation_space: Of the agent.
        action_space: Of the agent.
    """

    def __init__(self, config: EnvConfig, observation_space: Space, action_space: Space) -> None:
        self.spaces = observation_space, action_space
        self._config = config
        self._own = supported(observation_space, f"{config.id}: observation_space")
        self._checks: dict[tuple[int, ...], ObservationCheck] = {}
        space = observation_space
        if config.frame_stack > 1:
            space = batch_space(space, config.frame_stack)
        self._masks = ActionMasks(config, space, action_space) if config.action_mask else None
        if self._masks is not None:
            space = self._masks.space
        self._space = with_layout(supported(space, f"{config.id}: observation_space"), config)
        self._of_obs = of_observations(self._space, config)
        self._of_action = action_transform(action_space, config)
        self.observation_space = self._of_obs[-1][0] if self._of_obs else self._space
        self.action_space = self._of_action[0] if self._of_action else action_space
        self._last_action = None
        if config.last_action:
            self._last_action = LastAction(
                self.observation_space, self.action_space, config.reward_scale, config.reward_clip
            )
            self.observation_space = self._last_action.space

    def __reduce__(self) -> Any:
        """What pickles it: its arguments, for transforms are functions without a name."""
        return Interface, (self._config, *self.spaces)

    def rows(self, obs: Any) -> tuple[Tree, bool]:
        """The environment's observation, or a batch of them, as a tree [B,*]; whether it was one.

        Raises:
            ValueError: It does not lie in the environment's space.
        """
        space, part = self._own, obs
        while isinstance(space, spaces.Dict | spaces.Tuple):
            key: Any = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
            try:
                space, part = space[key], part[key]
            except (LookupError, TypeError):  # the check names it
                break
        shape = np.shape(part)
        single = len(shape) <= len(space.shape or ())
        self._check(obs, () if single else shape[:1])
        return _rows(self._own, obs, single), single

    def _check(self, obs: Any, count: tuple[int, ...]) -> None:
        if count not in self._checks:
            self._checks[count] = ObservationCheck(
                self._own, "always", self._config.id, lambda: "predict", count
            )
        try:
            self._checks[count](obs)
        except EnvError as error:
            raise ValueError(str(error)) from None

    def observe(
        self,
        obs: Tree,
        first: np.ndarray,
        past: Past | None,
        mask: Any = None,
        reward: Any = None,
    ) -> tuple[Tree, Past]:
        """The observations as the agent sees them, and what the next ones have of these.

        Args:
            obs: From `rows`.
            first: [B] bool: they open an episode.
            past: Of the step before, with the action that was taken there; None: there was none.
            mask: The action masks [B,n], if `env.action_mask=info`.
            reward: The rewards [B] of that action, if `env.last_action`.

        Raises:
            ValueError: A mask or a reward is missing, or is none.
        """
        past = past or Past((), None)
        frames: Tree = ()
        if self._config.frame_stack > 1:
            obs = frames = self._stacked(obs, first, past.frames)
        if self._masks is not None:
            obs = self._masked(obs, len(first), mask)
        obs = batch(self._space, obs)
        for _, function in self._of_obs:
            obs = function(obs)
        if self._last_action is not None:
            if reward is None and past.action is not None and not first.all():
                raise ValueError(
                    "predict: the run has env.last_action=true; give the reward of the last action"
                )
            gained = np.broadcast_to(0.0 if reward is None else reward, first.shape)
            obs = self._last_action(obs, past.action, gained, first)
        return obs, Past(frames, past.action)

    def _stacked(self, obs: Tree, first: np.ndarray, frames: Tree) -> Tree:
        """The stack [B,S,*] with a new frame; where an episode opens, of this frame alone."""
        count = self._config.frame_stack

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
        assert self._masks is not None
        found = []
        for row in range(count):
            info = {} if mask is None else {NAME: np.reshape(mask, (count, -1))[row]}
            one = map_tree(lambda leaf, row=row: leaf[row], obs)
            found.append(self._masks(one, info))
        return map_tree(lambda *each: np.stack(each), *found)

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        """The agent's actions [B,*] as the environment takes them."""
        if self._of_action is not None:
            action = self._of_action[1](action)
        return action.astype(self.spaces[1].dtype, copy=False)


def _rows(space: Space, obs: Any, single: bool) -> Tree:
    """The parts of an observation that a space has, as arrays [B,*]."""
    if isinstance(space, spaces.Dict):
        return {key: _rows(branch, obs[key], single) for key, branch in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_rows(branch, one, single) for branch, one in zip(space, obs, strict=True))
    array = np.asarray(obs)
    return array[None] if single else array


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


def action_transform(space: Space, config: EnvConfig) -> Transform | None:
    """From the agent's actions to the environments'; None where they are the same.

    Raises:
        ValueError: No agent knows such actions.
    """
    what = f"{config.id}: action_space"
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise ValueError(f"{what} is a {type(space).__name__}; flatten it in a wrapper of your own")
    return of_actions(checked_kind(space, what), config.rescale_actions)
