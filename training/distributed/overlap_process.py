"""What runs in the process of an `OverlapSource`: a `LocalSource`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import Guard
from ...core.frames import packed
from ...core.rollout import Rollout
from ...networks.observation import frames_of
from .helper_process import answer, unpickled
from .local_source import LocalSource
from .packed_weights import Unpacker
from .process import configure_process


@dataclass(frozen=True)
class Reply:
    """A rollout, and what the run needs to know of it."""

    rollout: Rollout[np.ndarray]
    """See `packed`."""
    columns: dict[str, Any]
    """Where the columns stand after it."""
    env_share: float
    """Of its wall time, what went to the environments' own code."""


class Collecting:
    """Collects when it is asked, with the weights that it gets."""

    _source: LocalSource | None = None

    @property
    def source(self) -> LocalSource:
        """The collectors."""
        assert self._source is not None, "it is not open"
        return self._source

    def open(self, setup: bytes) -> dict[str, Any]:
        """Opens the environments; returns where their columns stand. Raises as `LocalSource`."""
        cfg, policy, length = unpickled(setup, "overlap=true")
        configure_process(cfg.threads)
        self._unpack = Unpacker(policy)
        self._source = LocalSource(cfg, policy, length)
        return self.source.columns()

    def load(self, state: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
        """See `Source.load_state_dict`; also returns where the columns stand now.

        Raises:
            ValueError: The state is that of other environments.
        """
        with Guard(lambda: "columns", ValueError):
            reopened = self.source.load_state_dict(state)
        return self.source.columns(), reopened

    def collect(self, version: int, weights: np.ndarray) -> Reply:
        """The next rollout, by these weights. Raises as `LocalSource.next`."""
        self._unpack(weights)
        source, before, begin = self.source, self.source.env_seconds, time.perf_counter()
        for collector in source.collectors:
            collector.version = version
        rollout = source.next()
        share = (source.env_seconds - before) / (time.perf_counter() - begin)
        space = source.collectors[0].envs.observation_space
        rollout = packed(rollout, frames_of(space, source.cfg.env.stacked))
        return Reply(rollout, source.columns(), share)

    def close(self) -> None:
        """Closes the environments."""
        if self._source is not None:
            self._source.close()


def main(descriptor: int) -> None:
    """Collects rollouts, see `helper_process.answer`."""
    answer(descriptor, lambda over: Collecting())
