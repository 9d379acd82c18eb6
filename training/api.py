"""From Python: trains a run, and loads the policy of one.

run = train("env=CartPole-v1", "agent=ppo", "network=lstm", total_steps=50_000)
run.summary["evaluate/return"]
policy = load(run.dir)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .. import configs
from ..agents.policies import Policy
from . import folders
from .build import build_agent
from .loop import OnRecord, prepare
from .run import Run, fitting


def train(*words: str, on_record: OnRecord | None = None, **overrides: Any) -> Run:
    """Trains from Python as `neuraxis train` does.

    Args:
        words: As on the command line, `"agent=ppo"`, `"agent.learning_rate=1e-3"`.
        on_record: Called with the run after each rollout that was learned from.
        overrides: More words, as Python values: `total_steps=50_000`, `**{"agent.gamma": 0.9}`.

    Returns:
        The finished run; `run.summary` holds its results.

    Raises:
        ValueError: Something that was asked for cannot be had; nothing has run.
        EnvError, RunError: See `Session.run`.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; the run is saved and can be resumed.
    """
    session = prepare(configs.load(words, **overrides))
    run = session.run(on_record)
    if session.stopping:
        raise KeyboardInterrupt(f"stopped at {run.steps} steps: neuraxis resume {run.dir}")
    return run


def load(run_dir: str | Path, which: str = "best") -> Policy:
    """The policy of a run, in eval mode on the CPU.

    Args:
        run_dir: The run's folder.
        which: Checkpoint `best`, `last` or `step_...`.

    Raises:
        ValueError: No such run or checkpoint.
        RunError: It is damaged.
    """
    folder = folders.find(run_dir)
    cfg = configs.load_file(folder / "config.yaml").model_copy(update={"device": "cpu"})
    with torch.random.fork_rng(devices=[]):  # building seeds it
        policy = build_agent(cfg).policy
    weights = Run.open(folder).read(which, "agent", "policy")
    with fitting(folder):
        policy.load_state_dict(weights)
    return policy.eval()
