"""The diagnostic environment of action masks, `neuraxis/Masked-v0`."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from ...core.action_mask import NAME, choices
from .counting import Episode, Reset, Step


class Masked(Episode):
    """The greatest choice that is allowed is right, in each part of the action.

    Each step has a random mask, in which the greatest choice of all is always forbidden; the
    observation is a random bit. A forbidden part is never right. The best return is `length`.

    Args:
        action_space: discrete, multidiscrete or multibinary (whose greatest choice is allowed).
        size: choices of a discrete action, parts and choices of the others.
        length: steps, then truncation.
        in_observation: the mask is a key of the observation, not in `info`.
        strict: a forbidden action raises ValueError.
    """

    def __init__(
        self,
        action_space: Literal["discrete", "multidiscrete", "multibinary"] = "discrete",
        size: int = 5,
        length: int = 10,
        in_observation: bool = False,
        strict: bool = False,
    ) -> None:
        self.action_space = {
            "discrete": spaces.Discrete(size),
            "multidiscrete": spaces.MultiDiscrete([size, *[size - 1] * (size - 2)]),
            "multibinary": spaces.MultiBinary(size),
        }[action_space]
        self._sizes = choices(self.action_space)
        self._length, self._in_observation, self._strict = length, in_observation, strict
        self.observation_space = spaces.Discrete(2)
        if in_observation:
            mask = spaces.Box(0, 1, (sum(self._sizes),), np.int8)
            self.observation_space = spaces.Dict({"seen": self.observation_space, "legal": mask})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        """Starts the count; draws the first mask."""
        obs, _ = super().reset(seed=seed, options=options)
        return obs, self._info()

    def step(self, action: Any) -> Step:
        """Rewards the share of parts in which the greatest allowed choice was taken."""
        taken = np.asarray(action).ravel()
        for part, (choice, mask) in enumerate(zip(taken, self._masks, strict=True)):
            if self._strict and not mask[choice]:
                raise ValueError(f"choice {choice} of part {part} is forbidden by {mask}")
        best = [np.flatnonzero(mask)[-1] for mask in self._masks]
        reward = float(np.mean(taken == best))
        self._count += 1
        return self._open(), reward, False, self._count >= self._length, self._info()

    def _open(self) -> Any:
        self._masks = []
        for size in self._sizes:
            mask = self.np_random.random(size) < 0.5
            mask[self.np_random.integers(max(1, size - 1))] = True
            if size > 2:
                mask[-1] = False
            self._masks.append(mask)
        seen = self.np_random.integers(2)
        if not self._in_observation:
            return seen
        return {"seen": seen, "legal": np.concatenate(self._masks).astype(np.int8)}

    def _info(self) -> dict[str, Any]:
        return {} if self._in_observation else {NAME: np.concatenate(self._masks)}


gymnasium.register("neuraxis/Masked-v0", f"{__name__}:Masked")
