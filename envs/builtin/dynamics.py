"""CartPole and Pendulum with other dynamics: `neuraxis/CartPole-v0` and `neuraxis/Pendulum-v0`.

A physical number is a constant, or two bounds between which each episode draws its own: to train on
some dynamics and to look how the policy does on others (Packer et al. 2018, "Assessing
generalization in deep reinforcement learning"). Nothing observed tells what they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv

Range = float | Sequence[float]
"""A number above 0, or the least and the greatest of those that are drawn."""


class CartPole(CartPoleEnv):
    """CartPole-v1 with other dynamics; rewards and ends as there.

    Args:
        length: half the length of the pole, in metres.
        pole_mass: in kilograms.
        cart_mass: in kilograms.
        gravity: in metres per second squared.
        force: of a push, in newtons.
        render_mode: Gymnasium's.

    Raises:
        ValueError: a number is not above 0, or bounds are not two numbers in their order.
    """

    def __init__(
        self,
        length: Range = 0.5,
        pole_mass: Range = 0.1,
        cart_mass: Range = 1.0,
        gravity: Range = 9.8,
        force: Range = 10.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self._bounds = _bounds(
            {
                "length": length,
                "pole_mass": pole_mass,
                "cart_mass": cart_mass,
                "gravity": gravity,
                "force": force,
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Opens an episode, with dynamics of its own."""
        result = super().reset(seed=seed, options=options)
        drawn = _drawn(self._bounds, self.np_random)
        self.length, self.gravity = drawn["length"], drawn["gravity"]
        self.masspole, self.masscart = drawn["pole_mass"], drawn["cart_mass"]
        self.force_mag = drawn["force"]
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        return result


class Pendulum(PendulumEnv):
    """Pendulum-v1 with other dynamics; rewards and torques as there.

    Args:
        length: in metres.
        mass: in kilograms.
        gravity: in metres per second squared.
        render_mode: Gymnasium's.

    Raises:
        ValueError: a number is not above 0, or bounds are not two numbers in their order.
    """

    def __init__(
        self,
        length: Range = 1.0,
        mass: Range = 1.0,
        gravity: Range = 10.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self._bounds = _bounds({"length": length, "mass": mass, "gravity": gravity})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Opens an episode, with dynamics of its own."""
        result = super().reset(seed=seed, options=options)
        drawn = _drawn(self._bounds, self.np_random)
        self.l, self.m, self.g = drawn["length"], drawn["mass"], drawn["gravity"]
        return result


def _bounds(numbers: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """The least and the greatest of each number."""
    found = {}
    for name, value in numbers.items():
        pair = list(value) if isinstance(value, list | tuple) else [value, value]
        if len(pair) != 2 or not all(map(_is_size, pair)) or pair[0] > pair[1]:
            raise ValueError(
                f"{name}={value}: expected a number above 0, or [LEAST, GREATEST] of such numbers"
            )
        found[name] = pair[0], pair[1]
    return found


def _is_size(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _drawn(bounds: dict[str, tuple[float, float]], random: np.random.Generator) -> dict[str, float]:
    """A number between each of the bounds."""
    return {name: float(random.uniform(*pair)) for name, pair in bounds.items()}


gymnasium.register("neuraxis/CartPole-v0", f"{__name__}:CartPole", max_episode_steps=500)
gymnasium.register("neuraxis/Pendulum-v0", f"{__name__}:Pendulum", max_episode_steps=200)
