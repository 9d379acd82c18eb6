"""Action masks: from `info`, or a key of the observation, to a part of what the agent observes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ...core.action_mask import NAME, ActionMask, choices, mask_path, without
from ...core.errors import nearest, shorten
from ..config import EnvConfig
from ..observations import Space
from .single_wrappers import Env
from .transforms import Transform


class ActionMasks:
    """Puts the action mask into observations, as flat int8 numbers, and checks it.

    `env.action_mask=info` takes `info["action_mask"]`: it becomes a key of the observation, or
    stands beside it under `action_mask` and `observation`. Otherwise it names a key of the
    observation that has the mask already. No action is taken in the last observation of an episode,
    so its mask may be missing or forbid everything; it is then one that forbids nothing.

    Args:
        config: `action_mask` is set.
        observation_space: Of one observation, of a stack of frames if the config asks for them.
        action_space: Of one environment.
        batch: The axes before those of one observation.

    Attributes:
        space: Of one observation with its mask.

    Raises:
        ValueError: These actions have no choices, or there is no such key, or it has no mask.
    """

    def __init__(
        self,
        config: EnvConfig,
        observation_space: Space,
        action_space: Space,
        batch: tuple[int, ...] = (),
    ) -> None:
        self._actions = action_space
        self._word = f"env.action_mask={config.action_mask}"
        sizes = choices(action_space)
        if not sizes:
            raise ValueError(
                f"{self._word}: {config.id} has the actions {shorten(action_space)}; expected "
                "Discrete, MultiDiscrete or MultiBinary: only choices can be forbidden"
            )
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._size = sum(sizes)
        self._shape = (*batch, self._size)
        self._key = None if config.action_mask == "info" else config.action_mask
        self._stacked = self._key is not None and config.frame_stack > 1
        nested = isinstance(observation_space, spaces.Dict)
        branches = dict(observation_space.spaces) if nested else {"observation": observation_space}
        if self._key is None:
            if NAME in branches:
                raise ValueError(
                    f"{self._word}: the observation of {config.id} has a key {NAME!r} itself; "
                    f"env.action_mask={NAME} takes that one"
                )
        else:
            self._check_key(config, branches if nested else {}, observation_space)
        self._nested = nested
        self.name = f"info[{NAME!r}]" if self._key is None else f"observation[{self._key!r}]"
        self.space = spaces.Dict({**branches, self._key or NAME: ActionMask(self._size)})

    def _check_key(self, config: EnvConfig, branches: dict[str, Space], whole: Space) -> None:
        space = branches.get(self._key or "")
        if space is None:
            keys = f"its keys are {', '.join(branches)}" if branches else f"it is {shorten(whole)}"
            raise ValueError(
                f"{self._word}: the observation of {config.id} has no such key"
                f"{nearest(self._key or '', branches)} ({keys}); expected info or a key of a Dict"
            )
        shape = (space.shape or ())[int(self._stacked) :]
        numbers = isinstance(space, spaces.Box | spaces.MultiBinary)
        truths = isinstance(space, spaces.MultiBinary) or (
            isinstance(space, spaces.Box) and (space.low >= 0).all() and (space.high <= 1).all()
        )
        if not numbers or not truths or shape != (self._size,):
            raise ValueError(
                f"{self._word}: observation[{self._key!r}] of {config.id} is {shorten(space)}; "
                f"expected {self._size} numbers, 0 or 1, for the choices of "
                f"{shorten(self._actions)}: MultiBinary({self._size}), or a Box from 0 to 1"
            )

    def __call__(self, obs: Any, info: dict[str, Any], ended: Any = False) -> dict[str, Any]:
        """The observation, or a batch of them, with its mask.

        Args:
            obs: As the environment gave it.
            info: That came with it.
            ended: Whether it ends its episode, bool or [B] bool.

        Raises:
            ValueError: The mask is missing, is no mask of these actions, or forbids all of them.
        """
        found = info.get(NAME) if self._key is None else obs[self._key]
        if self._stacked and found is not None:
            found = np.asarray(found)[..., -1, :]
        mask = self._mask(found, ended)
        if self._key is not None or self._nested:
            return {**obs, self._key or NAME: mask}
        return {NAME: mask, "observation": obs}

    def _mask(self, found: Any, ended: Any) -> np.ndarray:
        if found is None and np.all(ended):
            return np.ones(self._shape, np.int8)
        if found is None:
            raise ValueError(f"there is no {self.name} ({self._word})")
        if isinstance(found, tuple):  # of one mask for each part, as Gymnasium's `sample` takes it
            found = np.concatenate([np.atleast_1d(part) for part in found], axis=-1)
        found = np.asarray(found)
        if found.shape != self._shape or found.dtype.kind not in "biuf":
            raise ValueError(
                f"{self.name} is {shorten(repr(found.tolist()), 60)} of shape {found.shape} and "
                f"dtype {found.dtype}; expected shape {self._shape}, a truth value for each choice "
                f"of {shorten(self._actions)}"
            )
        mask = found != 0
        wrong = mask != found
        if np.count_nonzero(wrong):  # a fifth of the time of `any`
            raise ValueError(f"{self.name} has {found[wrong][0]}; expected 0 or 1")
        possible = np.logical_or.reduceat(mask, self._starts, axis=-1)
        if np.count_nonzero(possible) < possible.size:
            self._free(mask, possible.all(-1), ended)
        return mask.view(np.int8)

    def _free(self, mask: np.ndarray, possible: Any, ended: Any) -> None:
        """Lets an episode's last mask forbid nothing where it forbids everything.

        Args:
            mask: [n] or [B, n] bool, which is changed.
            possible: Whether each mask allows an action, bool or [B] bool.
            ended: Whether its episode ends.
        """
        fine = possible | ended
        if not np.all(fine):
            where = "" if mask.ndim == 1 else f" in row {np.argmin(fine)}"
            raise ValueError(f"{self.name} allows no action{where}; expected at least one")
        mask[~possible] = True


class Masked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations have the action mask."""

    def __init__(self, env: Env, masks: ActionMasks) -> None:
        super().__init__(env)
        self._masks = masks
        self.observation_space = masks.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets; the observation has the mask."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._masks(obs, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; the observation has the mask."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        ended = bool(terminated or truncated)
        return self._masks(obs, info, ended), reward, terminated, truncated, info


def beside_mask(build: Callable[[Space], Transform], space: Space) -> Transform:
    """A transform of what an observation has beside its mask, which stays as it is.

    Args:
        build: Makes the transform for the space of an observation without a mask.
        space: Of an observation; its mask, if it has one, is a key of it.
    """
    path = mask_path(space)
    if path is None:
        return build(space)
    (key,) = path
    assert isinstance(space, spaces.Dict)
    changed, change = build(without(space, path))

    def transform(obs: Any) -> Any:
        return {key: obs[key], "observation": change(without(obs, path))}

    return spaces.Dict({key: space[key], "observation": changed}), transform
