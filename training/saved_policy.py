"""The policy of a stored run, or of a file that has a policy alone.

policy = load(run.dir)
policy = load("policy.safetensors")     written by `write_policy`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import configs
from ..agents.policies.policy import Policy
from ..configs.config import Config
from ..configs.groups import read_file
from ..configs.trust import code_of, refuse_foreign
from ..configs.words import flat
from ..core.files import expanded
from ..core.space_trees import from_tree
from ..envs.wrappers.interface import Interface
from .distributed.build import build_agent
from .storage import checkpoint_folder, layout, policy_file
from .storage.checkpoint import read_branches
from .storage.run_state import explain_misfit

_WITHOUT_ENVIRONMENT = ("env.id=none", "env.kwargs={}")  # nothing of it is imported
_BRANCHES = ("agent", "policy"), ("agent", "spaces"), ("agent", "environment")


def load(run_dir: str | Path, which: str = "best", trust: bool = False) -> Policy:
    """The policy of a run, in eval mode on the CPU; its environment is not needed.

    Args:
        run_dir: The run's folder, or a file that `write_policy` wrote.
        which: Checkpoint `best`, `last` or `step_...`; a file has one policy.
        trust: Whether a run that was not made here by you may import the modules that it names.

    Raises:
        ValueError: No such run or checkpoint, or it names modules and is not trusted.
        RunError: It is damaged.
    """
    if expanded(run_dir).is_file():
        return _load_file(expanded(run_dir), trust)
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
    weights, stored, own = read_branches(checkpoint, *_BRANCHES)
    words = ["device=cpu", "ray={}", *(_WITHOUT_ENVIRONMENT if stored else ())]
    cfg = configs.load(words, folder / layout.CONFIG, trust)
    return _built(cfg, weights, stored or (), own, folder)  # older checkpoints have no spaces


def write_policy(run_dir: str | Path, file: str | Path, which: str = "best") -> int:
    """Writes the policy of a run into one file, with all that `load` needs.

    Args:
        run_dir: The run's folder.
        file: Ends in .safetensors; an existing one is replaced.
        which: Checkpoint `best`, `last` or `step_...`.

    Returns:
        How many parameters it has.

    Raises:
        ValueError: No such run or checkpoint, or another name of the file.
        RunError: The run is damaged or too old, or the disk refuses.
    """
    folder = layout.find(run_dir)
    checkpoint = checkpoint_folder.chosen(folder / layout.CHECKPOINTS, which)
    weights, stored, own = read_branches(checkpoint, *_BRANCHES)
    if not stored or not own:
        raise ValueError(f"{checkpoint}: of an older version, which kept no spaces; train it on")
    config = read_file(folder / layout.CONFIG, str(folder / layout.CONFIG))
    tree = {"config": config, "policy": weights, "spaces": stored, "environment": own}
    policy_file.write(expanded(file), tree)
    return sum(leaf.numel() for leaf in weights.values() if isinstance(leaf, torch.Tensor))


def _load_file(file: Path, trust: bool) -> Policy:
    tree = policy_file.read(file)
    with explain_misfit(file):
        settings, env = tree["config"], tree["config"]["env"] | {"id": "none", "kwargs": {}}
        code = code_of(flat(settings | {"env": env}))
    if not trust:
        refuse_foreign(file, code)
    with explain_misfit(file):
        settings |= {"env": env, "device": "cpu", "ray": {}}
        cfg = Config.model_validate_json(json.dumps(settings), strict=True)
    return _built(cfg, tree["policy"], tree["spaces"], tree["environment"], file)


def _built(cfg: Config, weights: Any, stored: Sequence[Any], own: Any, place: Path) -> Policy:
    """The policy of these settings, weights, spaces and environment; `place` is for errors."""
    with explain_misfit(place):
        spaces = [from_tree(space) for space in stored]
    with torch.random.fork_rng(devices=[]):  # building seeds it
        policy = build_agent(cfg, spaces=spaces).policy
    with explain_misfit(place):
        policy.load_state_dict(weights)
        if own:
            env_id, *trees = own
            env = cfg.env.model_copy(update={"id": env_id})
            policy.interface = Interface(env, *map(from_tree, trees))
    return policy.eval()
