"""A run that is built and not started: what `neuraxis train --dry-run` says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ...configs import Config
from ...core.errors import shorten
from ...core.files import expanded
from ..checks.preflight import notes
from ..session import prepare
from ..storage import layout
from .output import columns, say

if TYPE_CHECKING:
    from ..loop import Session


def rehearse(config: Config, trust: bool) -> int:
    """Builds all that a run needs, says what would run, and leaves nothing behind."""
    if config.run_dir is not None:
        layout.refuse_taken(expanded(config.run_dir))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        elsewhere = config.model_copy(update={"run_dir": str(Path(folder, "run"))})
        session = prepare(elsewhere, trust=trust)
        closing.callback(session.learner.close)
        closing.callback(session.source.close)
        closing.callback(session.evaluations.close)
        said = notes(config, session.agent)
        columns(list(_facts(config, session)))
    for note in said:
        say(f"note: {note}")
    say("nothing was started or written; without --dry-run it trains")
    return 0


def _facts(config: Config, session: Session) -> Iterator[tuple[str, str]]:
    agent, run = session.agent, session.current_run
    setup = agent.setup
    where = f"{config.ray.workers} Ray workers" if config.ray.workers else "this process"
    yield "environment", f"{config.env.id}, {config.num_envs} of them in {where}"
    yield "observation", shorten(setup.observation_space)
    yield "action", shorten(setup.action_space)
    size = sum(parameter.numel() for parameter in agent.policy.parameters())
    network = "-".join(config.block_names()) or "a table"
    yield "agent", f"{config.agent.name} with {network}: {size:,} parameters of the policy"
    chosen = f"{setup.device}, updates {agent.execution}"
    remote = config.learner.placement == "actor"
    yield "device", f"that of a Ray actor, device={config.device}" if remote else chosen
    steps = agent.rollout_length * (setup.rollout_columns or setup.num_envs)
    rollouts = -(-config.total_steps // steps)
    yield "training", f"{config.total_steps:,} steps, {rollouts:,} rollouts of {steps:,}"
    yield "evaluation", _often(run.interval("eval"))
    yield "checkpoint", _often(run.interval("save"))
    yield "run folder", config.run_dir or f"runs/{'/'.join(layout.label(config))}/..."


def _often(interval: int) -> str:
    return f"every {interval:,} steps, and at the end" if interval else "at the end"
