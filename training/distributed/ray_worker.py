"""The Ray worker: a collector in an actor."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.errors import EnvError
from ...core.frames import packed
from ...core.rollout import Rollout
from ...envs.collector import Collector
from ...networks.observation import frames_of
from . import ray_cluster
from .groups import open_group
from .packed_weights import Unpacker
from .process import configure_process
from .worker_logs import Printed, output_files, own_output


@dataclass(frozen=True)
class Reply:
    """What a worker answers."""

    result: Any
    """None if it failed."""
    failure: str | None = None
    """What the environment raised, in one line: its exceptions may not exist on the other side."""
    env_seconds: float = 0.0
    """Wall seconds of this call that went to the environments' own code."""
    columns: dict[str, Any] | None = None
    """Where the columns stand now; None in async mode, in which they always open new episodes."""
    steps: int = 0
    """Steps of each column since they opened, up to the one that failed."""
    trace: str = ""
    """The traceback of what was raised."""
    printed: Printed = field(default_factory=Printed)
    """What the process has printed since its last reply, or its start."""


class Worker:
    """A group of columns in a process of its own. Each method returns a `Reply`.

    Every call names the generation that the columns belong to (see `open_group`); if it is not the
    one that is open, they open anew.

    Args:
        cfg: The run's configuration.
        policy: A copy of the learner's, on the CPU.
        length: T.
        group: Which one.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int, group: int) -> None:
        ray_cluster.set_secrets(cfg.ray)
        configure_process(cfg.threads)
        self.cfg, self.policy, self.length, self.group = cfg, policy, length, group
        self._unpack = Unpacker(policy)
        self._read = output_files()
        self.generation = -1
        self.collector: Collector | None = None

    def files(self) -> dict[str, int]:
        """The files that this process prints into, with 0 for each."""
        return dict.fromkeys(self._read, 0)

    def open(
        self, generation: int, files: dict[str, int], saved: dict[str, Any] | None = None
    ) -> Reply:
        """Opens the columns where they stood; the result counts those that could not.

        Args:
            generation: Of the columns.
            files: What `files` said: it has arrived before an environment can end this process.
            saved: Where they stood; None: nowhere, they open new episodes.
        """
        return self._answer(lambda: self._open(generation, saved))

    def load(self, weights: np.ndarray) -> None:
        """Takes over weights, as `pack` gave them."""
        self._unpack(weights)

    def collect(self, generation: int, version: int, weights: np.ndarray | None) -> Reply:
        """The result is the next rollout, `packed`, by these weights; None: by those of `load`."""

        def rollout() -> Rollout[np.ndarray]:
            if weights is not None:
                self.load(weights)
            collector = self._opened(generation)
            collector.version = version
            sizes = frames_of(collector.envs.observation_space, self.cfg.env.stacked)
            return packed(collector.collect(), sizes, self.cfg.ray.compression == "zlib")

        return self._answer(rollout)

    def close(self) -> None:
        """Closes the environments."""
        if self.collector is not None:
            self.collector.envs.close()
            self.collector = None

    def _answer(self, result: Callable[[], Any]) -> Reply:
        reply = self._reply(result)
        printed = own_output(self._read)
        self._read = dict(printed.read)
        return replace(reply, printed=printed)

    def _reply(self, result: Callable[[], Any]) -> Reply:
        before = self.collector.env_seconds if self.collector else 0.0
        try:
            found = result()
        except (EnvError, ValueError) as error:  # ValueError: an environment that cannot be made
            steps = self.collector.steps if self.collector else 0
            return Reply(None, str(error), steps=steps, trace=traceback.format_exc())
        assert self.collector is not None
        seconds = self.collector.env_seconds - before
        sync = self.cfg.ray.mode == "sync"
        return Reply(found, None, seconds, self.collector.state_dict() if sync else None)

    def _opened(self, generation: int) -> Collector:
        if self.collector is None or generation != self.generation:
            self._open(generation, None)
        assert self.collector is not None
        return self.collector

    def _open(self, generation: int, saved: dict[str, Any] | None) -> Counter[str]:
        self.close()
        self.collector, reopened = open_group(
            self.cfg, self.policy, self.length, self.group, generation, saved
        )
        self.generation = generation
        return reopened
