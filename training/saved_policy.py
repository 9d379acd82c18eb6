"""The policy of a stored run.

policy = load(run.dir)
"""

from __future__ import annotations

from pathlib import Path

import torch

from .. import configs
from ..agents.policies.policy import Policy
from ..core.space_trees import from_tree
from ..envs.wrappers.interface import Interface
from .distributed.build import build_agent
from .storage import checkpoint_folder, layout
from .storage.checkpoint import read_branches
from .storage.run_state import explain_misfit

_WITHOUT_ENVIRONMENT = ("env.id=none", "env.kwargs={}")  # nothing of it is imported


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
    return load_checkpoint(folder, checkpoint, trust)


def load_checkpoint(folder: Path, checkpoint: Path, trust: bool) -> Policy:
    """The policy of a checkpoint, for who has chosen one already; see `load`.

    Args:
        folder: Of the run.
        checkpoint: The checkpoint's folder.
        trust: See `load`.
    """
    branches = ("agent", "policy"), ("agent", "spaces"), ("agent", "environment")
    weights, stored, own = read_branches(checkpoint, *branches)
    words = ["device=cpu", "ray={}", *(_WITHOUT_ENVIRONMENT if stored else ())]
    cfg = configs.load(words, folder / layout.CONFIG, trust)
    with explain_misfit(folder):
        spaces = [from_tree(space) for space in stored or ()]  # older checkpoints have none
    with torch.random.fork_rng(devices=[]):  # building seeds it
        policy = build_agent(cfg, spaces=spaces).policy
    with explain_misfit(folder):
        policy.load_state_dict(weights)
        if own:
            env_id, *trees = own
            env = cfg.env.model_copy(update={"id": env_id})
            policy.interface = Interface(env, *map(from_tree, trees))
    return policy.eval()
