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
from ..configs.other_settings import other_settings
from ..core.errors import RunError, listed
from ..core.files import expanded
from ..networks.transfer.patterns import collapsed
from ..networks.transfer.report import STATISTICS, Report, is_statistic
from ..networks.transfer.transfer import transfer
from .storage import weights
from .storage.weights import Weights
from .tracking import wandb_artifacts
from .tracking.wandb_runs import REMOTE

RETURN_SCALE = "return_scale"
"""The part of an agent that divides the rewards of the environment."""


@dataclass(frozen=True)
class Start:
    """What a run has started from.

    Attributes:
        cfg: The run's configuration.
        there: The weights that were loaded from.
        here: The agent's tensors by name.
        values: The values that these were given.
        report: Which tensors were loaded.
        scales: By the name of a part with a scale of rewards, whether it was carried on.
    """

    cfg: Config
    there: Weights
    here: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    report: Report
    scales: Mapping[str, bool]

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
        settings, blocks = self.there.settings, self.there.about.get("blocks")
        for said in other_settings(self.cfg, settings, blocks, report.loaded):
            yield f"init: {said}"

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
        """How the statistics of observations and the scales of rewards begin."""
        found: dict[str, list[str]] = {"statistics": [], "reward_scale": []}
        statistics = {name: name in self.values for name in self.here if is_statistic(name)}
        if any(statistics.values()):
            counts = (
                int(self.values[n]) for n, own in statistics.items() if own and n.endswith(".count")
            )
            found["statistics"] = [f"carried on, of {max(counts, default=0):,} observations"]
        known = any(is_statistic(name) for name in self.there.tensors)
        why = "" if known else ", for there are none there"
        found["statistics"] += _fresh(statistics, self.here, why)
        own, other = (
            any(name.startswith(STATISTICS) for name in names)
            for names in (self.here, self.there.tensors)
        )
        if other and not own:
            missing = "agent.normalize_observations=true"
            said = f"none here, but there observations were normalised ({missing})"
            found["statistics"].append(said)
        if any(self.scales.values()):
            found["reward_scale"] = ["carried on"]
        found["reward_scale"] += _fresh(self.scales, [*self.scales, *self.here])
        if RETURN_SCALE in self.there.reward_scales and RETURN_SCALE not in self.scales:
            found["reward_scale"].append("none here, but there rewards were divided by one")
        return {what: "; ".join(said) for what, said in found.items() if said}


def _fresh(carried: Mapping[str, bool], every: Iterable[str], why: str = "") -> list[str]:
    """What of several parts begins anew, in short; its names only if others were carried on."""
    fresh = [name for name, is_carried in carried.items() if not is_carried]
    named = f": {listed(collapsed(fresh, every), 200)}" if any(carried.values()) else ""
    return [f"fresh{named or why}"] if fresh else []


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
        ours, theirs = cfg.agent.model_dump(mode="json"), there.settings.get("agent", {})
        others = unlike(agent, there.spaces, ours, theirs)
        values, report = transfer(there.tensors, here, cfg.init, packed(agent), others)
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
) -> dict[str, bool]:
    """Carries the scales of rewards on; that of a part with weights only if they were loaded."""
    carried: dict[str, bool] = {}
    for name, scale in return_scales(agent).items():
        part, dot, _ = name.partition(".")
        loaded = not dot or any(value.startswith(f"{part}.") for value in values)
        fresh = cfg.init.reward_scale == "fresh" or not loaded
        carried[name] = not fresh and name in there.reward_scales
        if carried[name]:
            scale.moments = there.reward_scales[name]
    return carried
