"""A run that has ended, for a program or a notebook.

run = TrainedRun.open("runs/CartPole-v1/ppo-mlp/20260101-120000-s0")     or what `train` returns
run.evaluate()["evaluate/return"]
run.plot("evaluate/return")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import configs
from ..configs.config import Config
from ..core.errors import nearest, require
from ..core.files import expanded
from .distributed.process import configure_process
from .evaluator import evaluate_stored
from .film import View
from .python_objects import given
from .saved_policy import load_checkpoint
from .storage import checkpoint_folder, layout, stored_run
from .storage.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_RETURNS = {"episode/return", "evaluate/return"}


class TrainedRun(RunFolder):
    """A run that has ended: its settings, its metrics, its policies."""

    trust = False

    @classmethod
    def open(cls, path: str | Path, cfg: Config | None = None, trust: bool = False) -> TrainedRun:
        """Opens a run's folder.

        Args:
            path: The folder.
            cfg: Takes the place of its own configuration.
            trust: See `load`.

        Raises:
            ValueError: No run there (names those nearby), or its config.yaml is not valid.
            RunError: The summary cannot be read.
        """
        cfg = cfg or configs.load_file(layout.find(path) / layout.CONFIG, trust)
        run = super().open(path, cfg)
        run.trust = trust
        return run

    @property
    def steps(self) -> int:
        """Environment steps of its training."""
        return int(self.summary.get("steps", 0))

    def metrics(self) -> dict[str, np.ndarray]:
        """The table of metrics.jsonl: a column [N] for each metric, NaN where a row has none.

        `pandas.DataFrame(run.metrics())` makes a data frame of it.

        Raises:
            RunError: The file is damaged.
        """
        rows = stored_run.read_rows(self.dir)
        names = dict.fromkeys(name for row in rows for name in row)
        return {
            name: np.array([row.get(name) for row in rows], np.float64)  # None becomes NaN
            for name in names
        }

    def evaluate(
        self,
        episodes: int = 100,
        seed: int | None = None,
        checkpoint: str = layout.BEST,
        stochastic: bool = False,
        video: str | Path | None = None,
        values: bool = False,
        env: Any = None,
    ) -> dict[str, float]:
        """Plays episodes with a policy of the run, the same as `neuraxis evaluate RUN`.

        Args:
            episodes: How many.
            seed: Another seed plays other episodes.
            checkpoint: `best`, `last` or `step_...`.
            stochastic: Sample the actions instead of taking the most likely ones.
            video: A file for the first episode, .mp4 or .gif.
            values: Draw beside it what the policy computes in each step.
            env: Another environment of the same kind, as for `train`; None: that of the run.

        Returns:
            `evaluate/return`, `evaluate/return_std`, `evaluate/length` and their like.

        Raises:
            ValueError: No such checkpoint, or the environment cannot be made.
            EnvError, RunError: It fails; the run is damaged.
        """
        configure_process(self.cfg.threads)
        cfg = self.cfg
        if env is not None:
            cfg = cfg.model_copy(update={"env": given(cfg.env, env)})
        chosen = checkpoint_folder.chosen(self.checkpoints, checkpoint)
        policy = load_checkpoint(self.dir, chosen, self.trust)
        return evaluate_stored(policy, cfg, episodes, seed, stochastic, View(video, values=values))

    def video(
        self,
        file: str | Path,
        seed: int | None = None,
        checkpoint: str = layout.BEST,
        values: bool = False,
    ) -> Path:
        """Films an episode, and returns the file; arguments and errors as those of `evaluate`."""
        self.evaluate(1, seed, checkpoint, video=file, values=values)
        return expanded(file)

    def plot(self, *metrics: str, axes: Axes | None = None) -> Axes:
        """Draws metrics over environment steps, and returns the axes of the picture.

        Args:
            metrics: Their names; without any, the returns of training and of its evaluations.
            axes: Where to draw; None: a new figure of matplotlib.pyplot.

        Raises:
            ValueError: The run has no such metric, or matplotlib is not installed.
        """
        require("plot", "matplotlib")
        from matplotlib import pyplot

        run = stored_run.read(self.dir)
        known = {name for row in run.rows for name in row}
        for metric in metrics:
            if metric not in known:
                raise ValueError(f"{metric}: {self.dir} has no such curve{nearest(metric, known)}")
        curves = {metric: run.curve(metric) for metric in metrics or sorted(_RETURNS & known)}
        axes = axes or pyplot.figure(layout="constrained").add_subplot()
        for metric, curve in curves.items():
            axes.plot(*curve.T, label=metric)
        axes.set(xlabel="environment steps", title=self.cfg.env.id)
        axes.legend()
        return axes
