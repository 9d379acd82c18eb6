"""Says each finished episode on standard output, for `time_to_score.py` to read.

The lines are those that CleanRL's scripts print. This file imports nothing of any library but
Gymnasium: each peer has a Python of its own.
"""

from __future__ import annotations

from typing import Any

import gymnasium


def say(steps: int, returned: float) -> None:
    """Prints an episode's line: environment steps so far, of all environments, and its return."""
    print(f"global_step={steps}, episodic_return={returned}", flush=True)


class Episodes(gymnasium.Wrapper):
    """An environment that says its episodes.

    Args:
        env: What is wrapped; it must be stepped in this process.
        skipped: Frames that an outer wrapper takes for one step.
    """

    counted = 0
    """Steps of all environments of this process."""

    def __init__(self, env: gymnasium.Env, skipped: int = 1) -> None:
        super().__init__(env)
        self._skipped = skipped
        self._returned = 0.0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Opens an episode."""
        self._returned = 0.0
        return self.env.reset(**arguments)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Counts a step, and says the episode that it ends."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        Episodes.counted += 1
        self._returned += float(reward)
        if terminated or truncated:
            say(Episodes.counted // self._skipped, self._returned)
        return obs, reward, bool(terminated), bool(truncated), info


def make(name: str, seed: int | None = None) -> Episodes:
    """An environment that says its episodes; with a seed, its first episode has it."""
    env = Episodes(gymnasium.make(name))
    if seed is not None:
        env.reset(seed=seed)
    return env
