"""Where rollouts come from: what the loop asks of a source.

A source asks its collectors for a rollout each and joins them along the batch; `publish` gives them
the learner's newest weights:

    agent.policy --publish--> source --> collector 0 (columns 0 .. B/G-1)   --+
                                     --> collector 1 (columns B/G .. 2B/G-1)  +--> join --> next()

`local_source.LocalSource` has them in this process, `overlap_source.OverlapSource` in another one,
`ray_source.RaySource` in Ray workers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

import numpy as np

from ...agents.policies.policy import Policy
from ...core.rollout import Rollout


class Source(Protocol):
    """What gives the loop its rollouts."""

    @property
    def env_seconds(self) -> float:
        """Wall seconds of `next` that went to the environments' own code."""
        ...

    def next(self) -> Rollout[np.ndarray]:
        """The next rollout, in NumPy."""
        ...

    def publish(self, policy: Policy) -> None:
        """Lets the collectors act with the newest weights and statistics."""
        ...

    def copy(self, policy: Policy) -> None:
        """Takes over the weights of `policy`, without counting a new version."""
        ...

    def metrics(self) -> dict[str, float]:
        """Metrics of how the last rollout was collected, such as its policy lag."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where every column stood at the last `publish`, also if `next` was broken off since.

        So it belongs to the weights that were published: both together are a checkpoint. It asks
        no worker: those may be gone.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """Takes back what `state_dict` gave, also of another number of groups.

        Returns:
            How many columns are `reopened` and `others`, see `Collector.load_state_dict`, and
            `regrouped`: stepped in other groups than before.

        Raises:
            RunError: It is that of another number of environments.
        """
        ...

    def close(self) -> None:
        """Closes the environments, and what they run in."""
        ...
