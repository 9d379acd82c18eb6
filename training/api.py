"""From Python: trains a run, and loads the policy of one.

run = train("env=CartPole-v1", "agent=ppo", "network=lstm", total_steps=50_000)
run.summary["evaluate/return"]
policy = load(run.dir)
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from .. import configs
from ..agents.policies.policy import Policy
from ..core.space_trees import from_tree
from .callbacks import Callback, checked
from .distributed.build import build_agent
from .session import prepare
from .storage import checkpoint_folder, layout
from .storage.checkpoint import read_branches
from .storage.run import Run
from .storage.run_state import explain_misfit

_WITHOUT_ENVIRONMENT = ("env.id=none", "env.kwargs={}")  # nothing of it is imported


def train(*words: str, callbacks: Iterable[Callback] = (), **overrides: Any) -> Run:
    """Trains from Python as `neuraxis train` does.

    Args:
        words: As on the command line, `"agent=ppo"`, `"agent.learning_rate=1e-3"`.
        callbacks: Are told of the run while it trains, and may stop it.
        overrides: More words, as Python values: `total_steps=50_000`, `**{"agent.gamma": 0.9}`.

    Returns:
        The finished run; `run.summary` holds its results.

    Raises:
        ValueError: The configuration cannot be run, or `callbacks` has something that is no
            Callback; nothing has started.
        EnvError, RunError: See `Session.run`.
        KeyboardInterrupt: After Ctrl-C, SIGTERM or SIGHUP; the run is saved and can be resumed.
    """
    callbacks = checked(callbacks)
    session = prepare(configs.load(words, **overrides))
    run = session.run(callbacks)
    if run.summary["status"] == "interrupted":
        folder = shlex.quote(str(run.dir))
        raise KeyboardInterrupt(f"stopped at {run.steps} steps: neuraxis resume {folder}")
    return run


def load(run_dir: str | Path, which: str = "best", trust: bool = False) -> Policy:
    """The policy of a run, in eval mode on the CPU; its environment is not needed.

    Args:
        run_dir: The run's folder.
        which: Checkpoint `best`, `last` or `step_...`.
        trust: Whether a run that was not made here by you may import the modules that it names.

    Raises:
        ValueError: No such run or checkpoint, or it names modules and is not trusted.
        RunError: It is damaged.
    """
    folder = layout.find(run_dir)
    checkpoint = checkpoint_folder.chosen(folder / layout.CHECKPOINTS, which)
    weights, stored = read_branches(checkpoint, ("agent", "policy"), ("agent", "spaces"))
    words = ["device=cpu", "ray={}", *(_WITHOUT_ENVIRONMENT if stored else ())]
    cfg = configs.load(words, folder / layout.CONFIG, trust)
    with explain_misfit(folder):
        spaces = [from_tree(space) for space in stored or ()]  # older checkpoints have none
    with torch.random.fork_rng(devices=[]):  # building seeds it
        policy = build_agent(cfg, spaces=spaces).policy
    with explain_misfit(folder):
        policy.load_state_dict(weights)
    return policy.eval()
