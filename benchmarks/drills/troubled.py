"""CartPole that is slow, or fails as an environment may: it raises, or hangs.

But for `hang_while` it fails in Ray workers only: evaluations play in the driver, which nobody
guards. The folder of this file must be on PYTHONPATH: `env=troubled:Troubled-v0`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class Troubled(CartPoleEnv):
    """CartPole-v1 with troubles.

    Args:
        raising: Probability of raising in a step; not seeded, so that a retry has other luck.
        hang_after: Steps of this environment, over all episodes, after which one never returns.
        hang_while: A file; as long as it exists, no step returns.
        seconds: That each step sleeps.
    """

    def __init__(
        self,
        raising: float = 0.0,
        hang_after: int | None = None,
        hang_while: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        guarded = Path(sys.argv[0]).name == "default_worker.py"  # Ray's program
        self._raising = raising if guarded else 0.0
        self._hang_after = hang_after if guarded else None
        self._hang_while = None if hang_while is None else Path(hang_while)
        self._seconds = seconds
        self._luck = np.random.default_rng()
        self._steps = 0

    def step(self, action: Any) -> Any:
        """Steps, or fails."""
        self._steps += 1
        if self._seconds:
            time.sleep(self._seconds)
        while self._hang_while is not None and self._hang_while.exists():
            time.sleep(3600)
        if self._steps == self._hang_after:
            time.sleep(3600)
        if self._luck.random() < self._raising:
            raise OSError("the simulator lost its connection")
        return super().step(action)


gymnasium.register("Troubled-v0", Troubled, max_episode_steps=500)  # pyright: ignore[reportArgumentType]
