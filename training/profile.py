"""Where a run's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Adds up the wall seconds of named parts of the loop.

    Attributes:
        seconds: {part: seconds}.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times what is inside as `part`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begin

    def shares(self, env_seconds: float) -> dict[str, float]:
        """Share of the whole time of each part, the largest first.

        Args:
            env_seconds: Seconds of `collect` that the environments took; the rest is acting.
        """
        parts = dict(self.seconds)
        parts["environments"] = env_seconds
        parts["acting"] = parts.pop("collect", env_seconds) - env_seconds
        total = sum(parts.values()) or 1.0
        return {name: parts[name] / total for name in sorted(parts, key=lambda n: -parts[n])}
