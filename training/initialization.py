"""What a run starts from: the weights of another one, as `init` of its configuration says.

start = initialise(cfg, agent)
start.notes()  # for people
start.facts()  # for meta.json
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..agents.agent import Agent
from ..agents.loading import loadable, packed, return_scales, take_over, unlike
from ..configs import Config
from ..core.errors import RunError, listed
from ..core.files import expanded
from ..networks.transfer.patterns import collapsed
from ..networks.transfer.report import STATISTICS, Report
from ..networks.transfer.transfer import transfer
from .storage import weights
from .storage.weights import Weights
from .tracking import wandb_artifacts
from .tracking.wandb_runs import REMOTE

SILENT = ("name", "init", "timescale", "dropout")
"""Settings of a block that do not change what its weights compute."""


@dataclass(frozen=True)
class Start:
    """What a run has started from.

    Attributes:
        cfg: The run's configuration.
        there: The weights that were loaded from.
        here: The agent's tensors by name.
        values: The values that these were given.
        report: Which tensors were loaded.
        scales: Names of the parts that carried on a scale of rewards; None: nothing here has one.
    """

    cfg: Config
    there: Weights
    here: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    report: Report
    scales: tuple[str, ...] | None

    def notes(self) -> Iterator[str]:
        """What people are told: what was loaded, what is new, and what differs."""
        report, about = self.report, self.there.about
        of = f"agent={about['agent']} on {about['env']}" if "agent" in about else "its file"
        if "steps" in about:
            of += f" after {about['steps']:,} steps"
        share = report.parameters / report.total
        yield (
            f"init: {report.parameters:,} of {report.total:,} parameters ({share:.0%}) are from "
            f"{self.there.place}, {of}: {self._named(report.loaded)}"
        )
        for names, what in ((report.sliced, "in part"), (report.new, "new")):
            if names:
                yield f"init: {what}: {self._named(names)}"
        if report.skipped:
            yield f"init: not used: {listed(collapsed(report.skipped, self.there.tensors), 200)}"
        if self.there.untrained:
            names = listed([f"{name}.*" for name in self.there.untrained], 200)
            yield f"init: not used, because they never learned: {names}"
        for what, state in self._carried().items():
            yield f"init: {what.replace('_', ' ')}: {state}"
        yield from self._other_settings()

    def facts(self) -> dict[str, Any]:
        """What meta.json keeps."""
        report, digest = self.report, hashlib.sha256()
        for value in self.values.values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        names = {"loaded": report.loaded, "in_part": report.sliced, "new": report.new}
        return {
            "from": self.there.place,
            **{key: about for key, about in self.there.about.items() if key != "blocks"},
            "parameters": report.parameters,
            "share": report.parameters / report.total,
            **{key: collapsed(names[key], self.here) for key in names},
            "not_used": collapsed(report.skipped, self.there.tensors),
            "never_learned": [f"{name}.*" for name in self.there.untrained],
            **self._carried(),
            "sha256": digest.hexdigest(),
        }

    def _named(self, names: Iterable[str]) -> str:
        return listed(collapsed(names, self.here), 200)

    def _carried(self) -> dict[str, str]:
        """How the statistics of observations and the scale of rewards begin."""
        found: dict[str, str] = {}
        here, there, loaded = (
            any(name.startswith(STATISTICS) for name in names)
            for names in (self.here, self.there.tensors, self.values)
        )
        if loaded:
            counts = (x for name, x in self.values.items() if name.endswith(".count"))
            found["statistics"] = f"carried on, of {max(map(int, counts)):,} observations"
        elif here:
            found["statistics"] = "fresh" if there else "fresh, for there are none there"
        elif there:
            missing = "agent.normalize_observations=true"
            found["statistics"] = f"none here, but there observations were normalised ({missing})"
        if self.scales:
            found["reward_scale"] = "carried on"
        elif self.scales is not None:
            found["reward_scale"] = "fresh"
        elif "return_scale" in self.there.reward_scales:
            found["reward_scale"] = "none here, but there rewards were divided by one"
        return found

    def _other_settings(self) -> Iterator[str]:
        """Names the settings by which blocks compute something else from the same weights."""
        own = [block.model_dump(mode="json") for block in self.cfg.network.blocks]
        for number, pair in enumerate(zip(own, self.there.about.get("blocks", ()), strict=False)):
            ours, theirs = pair
            if not isinstance(theirs, dict) or ours["name"] != theirs.get("name"):
                continue
            for key in [key for key in ours if key not in SILENT and key in theirs]:
                if ours[key] != theirs[key]:
                    setting = f"network.blocks.{number}.{key}"
                    yield f"init: {setting} is {ours[key]} here, it was {theirs[key]} there"


def initialise(cfg: Config, agent: Agent) -> Start | None:
    """Gives an agent the weights that `init` names; None without `init.from`.

    All is looked at before the first weight changes, and no random number is drawn.

    Args:
        cfg: The run's configuration.
        agent: Just built.

    Raises:
        ValueError: They cannot be read or do not fit; names the source and what of it.
    """
    source = cfg.init.source
    if source is None:
        return None
    try:
        there = _read(source, cfg.init.checkpoint)
        here = loadable(agent)
        other_actions = unlike(agent, there.spaces)
        values, report = transfer(there.tensors, here, cfg.init, packed(agent), other_actions)
    except (ValueError, RunError) as error:
        said = str(error).removeprefix(f"{source}: ")
        raise ValueError(f"init.from={source}: {said}") from error
    take_over(agent, values)
    return Start(cfg, there, here, values, report, _carry_scales(cfg, agent, there, values))


def _read(source: str, checkpoint: str) -> Weights:
    if not source.startswith(REMOTE):
        return weights.read(expanded(source), checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        found = weights.read(wandb_artifacts.fetch(source, Path(folder)), checkpoint)
    return replace(found, place=source)


def _carry_scales(
    cfg: Config, agent: Agent, there: Weights, values: Mapping[str, Tensor]
) -> tuple[str, ...] | None:
    """Carries the scales of rewards on; that of a part with weights only if they were loaded."""
    scales = return_scales(agent)
    if cfg.init.reward_scale == "fresh":
        return () if scales else None
    carried: list[str] = []
    for name, scale in scales.items():
        part, dot, _ = name.partition(".")
        loaded = not dot or any(value.startswith(f"{part}.") for value in values)
        if loaded and name in there.reward_scales:
            scale.moments = there.reward_scales[name]
            carried.append(name)
    return tuple(carried) if scales else None
