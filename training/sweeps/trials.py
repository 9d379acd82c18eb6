"""A sweep's trials as they lie on disk: what each one tries, how far its runs are, how it ended.

    runs/sweeps/<name>-<time>/
      sweep.yaml        what is searched, and the words that all runs share
      trial_03/
        trial.json      its values, its scores so far, how it ended
        s0/ s1/         a run for each seed
        copy_1/         pbt: the trial since it continued from another one, with the same files;
          ...           its runs begin with the metrics and the checkpoint of the other trial
      best.yaml         the best trial's configuration, an experiment

These files are the whole state of a sweep: Ray Tune only schedules, what it writes is not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ...configs import Config, dump, load
from ...configs.groups import read_file
from ...configs.trust import code_of, refuse_foreign, signed
from ...configs.words import flat, spoken, typed
from ...core.errors import RunError
from ...core.files import expanded
from ..storage.atomic_files import read_json, write_json, write_text
from ..storage.layout import CONFIG
from .ranges import Parameters, SweepConfig, parse_sweep

SWEEP, TRIAL = "sweep.yaml", "trial.json"
Ended = Literal["", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Sweep:
    """What a sweep is; the content of sweep.yaml.

    Attributes:
        folder: where it lies, absolute.
        words: what all runs share, as typed for `neuraxis train`.
        config: what is searched and how.
    """

    folder: Path
    words: tuple[str, ...]
    config: SweepConfig

    @classmethod
    def open(cls, path: str | Path, trust: bool = False) -> Sweep:
        """Reads a sweep's folder.

        Args:
            path: The folder.
            trust: Whether a sweep that was not made here by this person may name code.

        Raises:
            ValueError: It is no sweep, or it names code and is not trusted.
        """
        folder = expanded(path).absolute()
        if not (folder / SWEEP).is_file():
            raise ValueError(f"{path}: not a sweep, it has no {SWEEP}")
        data = read_file(folder / SWEEP, str(folder / SWEEP))
        try:
            sweep = cls(folder, tuple(data["words"]), parse_sweep(data["sweep"]))
            code = sweep.code()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / SWEEP}: damaged: {error}") from error
        if not trust:
            refuse_foreign(folder / SWEEP, code)
        if not trust and not code:  # it has no signature, and no part of it may name code
            for trial in sweep.trials():
                words = [*map(typed, sweep.words), *flat(trial.parameters)]
                refuse_foreign(trial.place / TRIAL, code_of(words))
            for file in folder.glob(f"trial_*/**/s*/{CONFIG}"):
                refuse_foreign(file, code_of(flat(read_file(file, str(file)))))
        return sweep

    def code(self) -> list[str]:
        """Which of its words, and of the values that it tries, name code."""
        tried = self.config.parameters.items()
        values = [spoken(key, value) for key, range_ in tried for value in range_.choice or ()]
        return code_of([*map(typed, self.words), *values])

    def write(self) -> None:
        """Writes sweep.yaml. Raises RunError."""
        content = self.config.model_dump(mode="json", exclude_none=True)
        text = dump({"words": [*self.words], "sweep": content})
        write_text(self.folder / SWEEP, signed(self.folder / SWEEP, text, self.code()))

    def base(self) -> Config:
        """The configuration that the trials change. Raises ValueError."""
        return load(self.words)

    def run_config(self, parameters: Parameters, seed: int, place: Path | None = None) -> Config:
        """The configuration of a run.

        Args:
            parameters: of its trial.
            seed: its place among the trial's seeds, from 0.
            place: folder of the trial or of its copy.

        Raises:
            ValueError: a value cannot be; one line that names key, value and expectation.
        """
        base = self.base()
        own: Parameters = {"seed": base.seed + seed}
        if base.wandb.group is None:
            own["wandb.group"] = self.folder.name
        if place is not None:
            own["run_dir"] = str(place / f"s{base.seed + seed}")
        shared = [word for word in self.words if word.partition("=")[0] not in own]
        return load(shared, **parameters, **own)

    def trials(self) -> list[Trial]:
        """The trials that there are, by number. Raises RunError."""
        return [Trial.open(file.parent) for file in sorted(self.folder.glob(f"trial_*/{TRIAL}"))]


@dataclass
class Trial:
    """A trial; all but its place is the content of trial.json.

    Attributes:
        place: the folder with its runs, that of the trial or of its newest copy.
        parameters: what it tries.
        scores: mean over the seeds at each rung, (steps, score).
        ended: finished, stopped (early) or failed; empty while it goes on.
        reason: why it failed.
        origin: the trial that it is a copy of, and at which step; empty if it is none.
    """

    place: Path
    parameters: Parameters
    scores: list[tuple[int, float]] = field(default_factory=list)
    ended: Ended = ""
    reason: str = ""
    origin: str = ""

    @classmethod
    def create(cls, sweep: Sweep, number: int, parameters: Parameters) -> Trial:
        """Makes the folder of a new trial."""
        digits = max(2, len(str(sweep.config.size - 1)))
        trial = cls(sweep.folder / f"trial_{number:0{digits}}", parameters)
        trial.write()
        return trial

    @classmethod
    def open(cls, folder: Path) -> Trial:
        """Reads a trial's folder. Raises RunError."""
        copies = [file.parent for file in folder.glob(f"copy_*/{TRIAL}")]
        place = max(copies, key=lambda copy: int(copy.name[5:]), default=folder)
        data = read_json(place / TRIAL)
        try:
            data["scores"] = [(int(steps), float(score)) for steps, score in data["scores"]]
            return cls(place, **data)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{place / TRIAL}: damaged: {error}") from error

    def write(self) -> None:
        """Writes trial.json. Raises RunError."""
        content = {key: value for key, value in asdict(self).items() if key != "place"}
        write_json(self.place / TRIAL, content)

    @property
    def folder(self) -> Path:
        """The folder of the trial with all its copies."""
        return self.place if self.place.name.startswith("trial") else self.place.parent

    @property
    def name(self) -> str:
        """`trial_NUMBER`."""
        return self.folder.name

    @property
    def steps(self) -> int:
        """The last rung that it has reached."""
        return self.scores[-1][0] if self.scores else 0

    @property
    def score(self) -> float | None:
        """Its newest score; None while there is none, and if it failed."""
        return self.scores[-1][1] if self.scores and self.ended != "failed" else None


def ranked(trials: Iterable[Trial], mode: str) -> list[Trial]:
    """The trials, best first: those that finished, then those stopped latest, then those failed."""
    sign = -1 if mode == "max" else 1

    def key(trial: Trial) -> tuple[bool, int, float]:
        score = trial.score
        return score is None, -trial.steps, 0.0 if score is None else sign * score

    return sorted(trials, key=key)
