"""What `Policy.predict` needs: the way to the environment, and the state between two calls."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from ...core.tree import Tree, leaves


class Interface(Protocol):
    """What stands between environment and agent; see `envs.wrappers.interface.Interface`."""

    env_id: str
    spaces: tuple[Any, Any]

    def rows(self, obs: Any) -> tuple[Tree, bool]:
        """The environment's observations as a tree [B,*], and whether there was one only."""
        ...

    def observe(
        self, obs: Tree, first: np.ndarray, past: Any, mask: Any, reward: Any
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


def known(interface: Interface | None) -> Interface:
    """The interface; ValueError if there is none."""
    if interface is None:
        raise ValueError(
            "predict: the environment's spaces are not known: the run is from before `predict`. "
            "Train on, `neuraxis resume RUN total_steps=N`, and take load(RUN, 'last')"
        )
    return interface


def resumed(state: PredictState | None, memory: Tree, batch: int) -> tuple[Tree, Any]:
    """The memory and the past of a state; ValueError if it is of another policy or batch.

    Args:
        state: What `predict` was given.
        memory: The policy's, before the first step.
        batch: B of the observation.
    """
    if state is None:
        return memory, None
    if not isinstance(state, PredictState):
        raise ValueError(
            f"predict: state is a {type(state).__name__}; expected None, or what the last call "
            "returned"
        )
    if state.batch != batch:
        raise ValueError(
            f"predict: the state is of {state.batch} environments, the observation of {batch}"
        )
    if [leaf.shape for leaf in leaves(state.memory)] != [leaf.shape for leaf in leaves(memory)]:
        raise ValueError("predict: the state is of another policy")
    return state.memory, state.past


def as_batch(mask: Any) -> Any:
    """The action mask of one observation as that of a batch of one; None if there is none."""
    if mask is None:
        return None
    parts = mask if isinstance(mask, tuple) else (mask,)
    return tuple(np.atleast_1d(part)[None] for part in parts)


def opening(episode_start: Any, state: PredictState | None, batch: int) -> np.ndarray:
    """Which observations open an episode, [B] bool; ValueError for what says it not."""
    opens = np.asarray(state is None if episode_start is None else episode_start)
    if opens.shape not in ((), (batch,)) or opens.dtype.kind not in "bi":
        raise ValueError(
            f"predict: episode_start is {opens.tolist()}; expected true or false for each of "
            f"{batch} environments"
        )
    return np.broadcast_to(opens.astype(bool), (batch,)).copy()
