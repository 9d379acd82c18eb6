"""B environments that are stepped together: the interface.

NEXT_STEP autoreset: a finished environment returns its true last observation, and its next step
is the reset (action ignored, reward 0).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..core.tree import Tree
from .observations import Space

Step = tuple[Tree, np.ndarray, np.ndarray, np.ndarray]


class Envs(ABC):
    """B environments: what a Collector steps.

    `observation_space` and `action_space` are those of one environment. `obs` is the current
    observation, a tree of arrays [B,*], also after `restore`. `others` counts the columns whose
    episode `restore` found to begin in another way than before: the environment is another.
    """

    num_envs: int
    observation_space: Space
    action_space: Space
    obs: Tree
    others: int = 0

    @abstractmethod
    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""

    @abstractmethod
    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; returns obs [B,*], reward, terminated and truncated [B].

        The arrays are fresh: a later step does not write into them.

        Raises:
            EnvError: an environment raised.
        """

    def successes(self) -> list[float]:
        """Returns, and clears, whether the ended episodes were a success, by step and column.

        Returns:
            The last `info["is_success"]` of each episode since the last call; NaN where it has
            none. Or an empty list: these environments never say.
        """
        return []

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """The state of each column: a tree of arrays and JSON values."""

    @abstractmethod
    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Goes back to a snapshot of freshly made Envs of the same configuration.

        Returns:
            [B] bool: which columns are as they were; the others opened a new episode.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees what the environments hold."""
