"""`predict`: a policy's actions for one who steps the environment, NumPy in and NumPy out."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...core.acting import ActResult
from ...core.tree import Tree, leaves, map_tree


class Interface(Protocol):
    """What stands between the environment and the agent; see `envs.interface.Interface`."""

    spaces: tuple[Any, Any]

    def rows(self, obs: Any) -> tuple[Tree, bool]:
        """The environment's observations as a tree [B,*], and whether there was one only."""
        ...

    def observe(
        self, obs: Tree, first: np.ndarray, past: Any, mask: Any = None, reward: Any = None
    ) -> tuple[Tree, Any]:
        """The agent's observations [B,*], and what the next ones have of these."""
        ...

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        """The agent's actions [B,*] as the environment takes them."""
        ...


class PredictState(NamedTuple):
    """What `predict` has to know of the steps before; for its next call only."""

    memory: Tree
    """Of the network, a tree of [*,B,*]."""
    past: Any
    """Of the interface."""
    batch: int
    """B."""


class Acting(Protocol):
    """A policy, as `predict` needs it."""

    def initial_state(self, batch: int) -> Tree:
        """The memory before the first step."""
        ...

    def act(
        self, obs: Tree, state: Tree, first: Tensor, noise: Tensor | None, greedy: bool
    ) -> ActResult:
        """Actions, extras and the new memory."""
        ...


def predict(
    policy: Acting,
    interface: Interface,
    device: torch.device,
    obs: Any,
    state: PredictState | None,
    first: Any,
    deterministic: bool,
    action_mask: Any,
    reward: Any,
) -> tuple[Any, PredictState]:
    """See `Policy.predict`."""
    rows, single = interface.rows(obs)
    count = len(next(leaves(rows)))
    if state is not None and not isinstance(state, PredictState):
        raise ValueError(
            f"predict: state is a {type(state).__name__}; expected None, or what the last call "
            "returned"
        )
    if state is not None and state.batch != count:
        raise ValueError(
            f"predict: the state is of {state.batch} environments, the observation of {count}"
        )
    opens = np.asarray(state is None if first is None else first, bool)
    if opens.shape not in ((), (count,)):
        raise ValueError(f"predict: first has shape {opens.shape}; expected ({count},)")
    opens = np.broadcast_to(opens, (count,)).copy()
    memory, past, _ = state or (policy.initial_state(count), None, count)
    seen, past = interface.observe(rows, opens, past, action_mask, reward)
    given = map_tree(lambda leaf: torch.as_tensor(leaf, device=device), seen)
    with torch.inference_mode():
        chosen, _, memory = policy.act(
            given, memory, torch.as_tensor(opens, device=device), None, deterministic
        )
    action = chosen.cpu().numpy()
    state = PredictState(memory, past._replace(action=action), count)
    action = interface.to_environment(action)
    return (action[0] if single else action), state
