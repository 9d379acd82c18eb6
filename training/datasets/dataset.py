"""A dataset: recorded episodes on disk, one after the other, in the form of a rollout's column.

DIR/
  dataset.json    counts, returns, environment, and the policy that played
  stream/         the stream and its spaces as a checkpoint holds them: safetensors, JSON, SHA-256

An episode of L steps has L + 1 rows. The last one is its last observation, and its step the reset,
which is no transition (see `Rollout`): the action is 0 there, the reward 0, the discount 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from ...core.errors import RunError, nearest, shorten
from ...core.files import expanded
from ...core.space_trees import from_tree, to_tree
from ...core.tree import Tree, leaves
from ...envs.observations import Space, space_leaves
from ..storage import checkpoint
from ..storage.atomic_files import disk, read_json, strange, write_json

FORMAT = 1
ABOUT, STREAM = "dataset.json", "stream"
NAMES = ("obs", "first", "action", "reward", "discount")


@dataclass(frozen=True)
class Dataset:
    """Episodes in R rows, and the spaces of what they hold."""

    observation_space: Space
    """Of one observation, as the policy saw it."""
    action_space: Space
    """Of one action, as the policy chose it."""
    obs: Tree
    """[R, *obs]."""
    first: np.ndarray
    """[R] bool: obs[r] opens an episode."""
    action: np.ndarray
    """[R, *act]."""
    reward: np.ndarray
    """[R] float32, raw: before `env.reward_scale` and `env.reward_clip`."""
    discount: np.ndarray
    """[R] float32: 0 where the episode terminated."""
    digest: str = ""
    """SHA-256 of what was read; empty if it was not."""

    @property
    def begins(self) -> np.ndarray:
        """[E + 1]: the first row of each episode, and the number of rows."""
        return np.append(np.flatnonzero(self.first), len(self.first))

    @property
    def lengths(self) -> np.ndarray:
        """[E]: the steps of each episode."""
        return np.diff(self.begins) - 1

    @property
    def returns(self) -> np.ndarray:
        """[E] float64: the sum of the rewards of each episode."""
        return np.add.reduceat(self.reward.astype(np.float64), self.begins[:-1])

    def counts(self) -> dict[str, float]:
        """What there is in it, by name."""
        returns = self.returns
        return {
            "episodes": len(returns),
            "steps": int(self.lengths.sum()),
            "return_mean": float(returns.mean()),
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
        }


def check_free(folder: Path) -> None:
    """Raises ValueError if a dataset cannot be written there, because something is."""
    with disk(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            what = "has a dataset" if (folder / ABOUT).exists() else "is not an empty folder"
            raise ValueError(f"--out {folder}: {what}; give another one")


def write(folder: Path, dataset: Dataset, about: Mapping[str, Any]) -> None:
    """Writes a dataset.

    Args:
        folder: Where to; see `check_free`.
        dataset: The episodes.
        about: What else dataset.json says of them.

    Raises:
        RunError: The disk refuses.
    """
    spaces = dataset.observation_space, dataset.action_space
    tree = {name: getattr(dataset, name) for name in NAMES}
    checkpoint.write(folder / STREAM, tree | {"spaces": [to_tree(space) for space in spaces]})
    write_json(folder / ABOUT, {"format": FORMAT, **dataset.counts(), **about})  # it is whole now


def read(place: str | Path, setting: str = "dataset") -> Dataset:
    """Reads a dataset into memory.

    Args:
        place: Its folder.
        setting: Opens the message if there is none, `agent.dataset` for instance.

    Raises:
        ValueError: There is no dataset.
        RunError: It is damaged, or of another version.
    """
    folder = expanded(place)
    if not (folder / ABOUT).is_file():
        raise ValueError(f"{setting}={place}: {_missing(folder)}")
    version = read_json(folder / ABOUT).get("format")
    if version != FORMAT:
        found = f"format {shorten(version)}, this neuraxis reads {FORMAT}"
        raise RunError(f"{folder / ABOUT}: {found}: update neuraxis")
    tree = checkpoint.read(folder / STREAM)
    with strange(f"{folder / STREAM}: damaged"):
        seen, done = (from_tree(space) for space in tree["spaces"])
        arrays = {name: tree[name] for name in NAMES}
        dataset = Dataset(seen, done, **arrays, digest=checkpoint.digest(folder / STREAM))
        check(dataset)
    return dataset


def _missing(folder: Path) -> str:
    """Why a folder is no dataset, and which one may have been meant."""
    if folder.is_dir():
        return f"not a dataset, it has no {ABOUT}; `neuraxis record RUN --out DIR` writes one"
    parent = folder.parent
    names = [path.name for path in parent.iterdir()] if parent.is_dir() else []
    hint = nearest(folder.name, names) or "; `neuraxis record RUN --out DIR` writes one"
    return f"no such dataset{hint}"


def check(dataset: Dataset) -> None:
    """Raises ValueError if the arrays are not those of a stream, or of other actions.

    Actions of a Box need only be finite: a policy chooses some that the environment clips.
    """
    rows = len(dataset.first)
    pairs = zip(leaves(dataset.obs), space_leaves(dataset.observation_space), strict=True)
    shapes = [(leaf.shape, (rows, *(space.shape or ()))) for leaf, space in pairs]
    shapes.append((dataset.action.shape, (rows, *(dataset.action_space.shape or ()))))
    shapes += [(x.shape, (rows,)) for x in (dataset.reward, dataset.discount)]
    for found, wanted in shapes:
        if found != wanted:
            raise ValueError(f"an array has the shape {found}, expected {wanted}")
    if not rows or not dataset.first[0] or (dataset.lengths < 1).any():
        raise ValueError("expected episodes of one step or more, the first one in row 0")
    arrays = [*(("observation", leaf) for leaf in leaves(dataset.obs)), ("reward", dataset.reward)]
    for what, array in (*arrays, ("discount", dataset.discount), ("action", dataset.action)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise ValueError(f"the {what} in row {row} is not finite")
    if isinstance(dataset.action_space, spaces.Box):
        return
    wrong = np.array([not dataset.action_space.contains(action) for action in dataset.action])
    wrong[dataset.begins[1:] - 1] = False  # no steps
    if wrong.any():
        row, space = int(wrong.argmax()), shorten(dataset.action_space)
        raise ValueError(
            f"the action {shorten(dataset.action[row])} in row {row} is not in {space}"
        )
