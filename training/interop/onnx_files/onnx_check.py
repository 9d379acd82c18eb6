"""Whether an ONNX file acts as `predict` does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from gymnasium import spaces

from ....agents.policies.policy import Policy
from ....core.action_mask import choices
from ....core.errors import RunError
from ....core.tree import Tree, leaves
from ....envs.observations import Space
from ....envs.wrappers.interface import Interface
from .onnx_graph import ABOUT, BATCH

Actor = Callable[..., np.ndarray]

BATCHES, STEPS, OPENS = (1, 5), 24, 0.15
"""Rows of the check's batches, steps of each, and how likely a row opens an episode."""
TOLERANCE = 1e-4
"""Of a number in an action, in multiples of its size where that is over 1."""
FAR = 10.0, 255.0
"""The size of random numbers in an observation: fractional ones, and whole ones."""
TIES = 0.02
"""The share of choices that may differ: where two are equally good, rounding decides."""


class OnnxPolicy:
    """Runs a file's policy; its state is kept from call to call.

    Args:
        content: Of the file.
    """

    def __init__(self, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(content, options)
        self.about = json.loads(self._session.get_modelmeta().custom_metadata_map[ABOUT])
        self._state: dict[str, np.ndarray] = {}

    def __call__(self, obs: Tree, first: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """The actions [B,*] for observations.

        Args:
            obs: Tree [B,*], in the order of the environment's space.
            first: [B] bool.
            more: `action_mask` and `reward`, where the file takes them.
        """
        if not self._state:
            self._state = {
                name: np.zeros([len(first) if n == BATCH else n for n in part["shape"]], dtype)
                for name, part in self.about["state"].items()
                for dtype in [part["dtype"]]
            }
        parts = zip(self.about["observation"], leaves(obs), strict=True)
        inputs = {name: np.asarray(leaf) for name, leaf in parts}
        outputs = self._session.run(None, inputs | {"first": first} | more | self._state)
        action, *state = map(np.asarray, outputs)
        self._state = dict(zip(self._state, state, strict=True))
        return action


def largest_difference(policy: Policy, opened: Callable[[], Actor]) -> float:
    """Compares what is to act as a policy with its `predict`, on random observations.

    Args:
        policy: In eval mode.
        opened: Makes one that has seen nothing yet; see `OnnxPolicy.__call__`.

    Returns:
        The largest difference between two numbers of an action.

    Raises:
        RunError: It acts otherwise.
    """
    interface = policy.interface
    assert isinstance(interface, Interface)
    rng, found = np.random.default_rng(0), []
    for batch in BATCHES:
        actor, state = opened(), None
        for _ in range(STEPS):
            first = (rng.random(batch) < OPENS) | (state is None)
            obs, more = _random(interface, batch, rng)
            wanted, state = policy.predict(obs, state, first, **more)
            found.append((actor(obs, first, **more), np.asarray(wanted)))
    actions, wanted = (np.concatenate(side) for side in zip(*found, strict=True))
    return compared(actions, wanted)


def compared(actions: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference between actions [N,*] and those wanted; RunError if it is too large.

    Of numbers, each may differ by `TOLERANCE`; of choices, a share of `TIES`.
    """
    if actions.shape != wanted.shape or actions.dtype != wanted.dtype:
        raise RunError(
            f"acts as {actions.dtype} {actions.shape}, and predict as {wanted.dtype} {wanted.shape}"
        )
    gap = np.abs(actions.astype(np.float64) - wanted.astype(np.float64)).reshape(len(wanted), -1)
    size = np.maximum(1.0, np.abs(wanted.astype(np.float64))).reshape(gap.shape)
    numbers = wanted.dtype.kind == "f"
    most = max(TOLERANCE, 2 * np.finfo(wanted.dtype).eps) if numbers else 0
    differs = np.array(~(gap <= most * size).all(1))  # NaN differs, too
    if differs.mean() > (0 if numbers else TIES):
        raise RunError(
            f"{differs.sum()} of {len(differs)} actions differ from those of predict, by up to "
            f"{gap.max():.3g}"
        )
    return float(gap.max())


def _random(
    interface: Interface, batch: int, rng: np.random.Generator
) -> tuple[Any, dict[str, Any]]:
    """Observations [B,*] of the environment's space, and the other arguments of `predict`."""
    observation_space, action_space = interface.spaces
    config, more = interface.config, {}
    obs = _sampled(observation_space, batch, rng)
    if config.action_mask == "info":
        more["action_mask"] = rng.integers(0, 2, (batch, sum(choices(action_space))), np.int8)
    elif config.action_mask is not None:
        mask = obs[config.action_mask]
        obs[config.action_mask] = np.rint(mask).astype(mask.dtype)
    if config.last_action:
        more["reward"] = rng.normal(size=batch).astype(np.float32)
    return obs, more


def _sampled(space: Space, batch: int, rng: np.random.Generator) -> Any:
    """Random observations [B,*]; numbers near 0 where the space has room for others, too."""
    if isinstance(space, spaces.Dict):
        return {key: _sampled(part, batch, rng) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_sampled(part, batch, rng) for part in space.spaces)
    if isinstance(space, spaces.Box):
        whole = space.dtype.kind != "f"
        low, high = (np.asarray(end, np.float64) for end in (space.low, space.high))
        near = FAR[whole]
        least, most = np.clip(low, -near, near), np.clip(high, -near, near)
        rows = np.clip(rng.uniform(least, most, (batch, *space.shape)), low, high)
        return (np.rint(rows) if whole else rows).astype(space.dtype)
    space = copy.deepcopy(space)
    space.seed(int(rng.integers(2**31)))
    return np.stack([space.sample() for _ in range(batch)]).astype(space.dtype)
