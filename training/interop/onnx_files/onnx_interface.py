"""What stands between environment and agent, in PyTorch, so that it can be a part of a graph.

The counterpart of `envs.wrappers.interface`, which computes in NumPy: `onnx_check` compares the two
in each export. Only the checks of what the environment gives are missing.

Shapes: B environments, S frames of a stack, n choices of an action mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ....core.action_mask import choices, mask_path, without
from ....core.tree import Tree, leaves, map_tree
from ....envs.config import EnvConfig
from ....envs.observations import Space, empty, space_leaves, supported
from ....envs.wrappers import transforms
from ....envs.wrappers.actions import FLOAT32, bounds
from ....envs.wrappers.interface import Interface

Change = Callable[[Tree], Tree]


class GraphInterface:
    """Makes the agent's observations of the environment's, and the environment's actions.

    Args:
        interface: The one that `Policy.predict` uses.
    """

    def __init__(self, interface: Interface) -> None:
        self.config = interface.config
        self.count = interface.config.frame_stack
        own, self._actions = interface.spaces
        self._space = supported(own, "observation_space")
        given = interface.given_space
        self._path = mask_path(given)
        self._changes = _of_observations(without(given, self._path), interface.config)
        last = interface.of_obs[-1][0] if interface.of_obs else given
        self._keys = list(last) if self._path and isinstance(last, spaces.Dict) else []
        self.to_vector = _flatten(interface.action_space)

    def no_frames(self, batch: int) -> Tree:
        """Zeros for the frames before an episode [B,S-1,*]; () without a stack."""
        if self.count == 1:
            return ()
        zeros = map_tree(np.zeros_like, empty(self._space, batch * (self.count - 1)))
        return map_tree(lambda leaf: torch.from_numpy(leaf).unflatten(0, (batch, -1)), zeros)

    def frames(self, obs: Tree, first: Tensor, before: Tree) -> tuple[Tree, Tree]:
        """The stacks [B,S,*], and their newest S-1 frames for the next step.

        Args:
            obs: The environments' observations [B,*].
            first: [B] bool.
            before: The last S-1 frames [B,S-1,*]; () without a stack.
        """
        obs = map_tree(
            lambda leaf, like: leaf.to(torch_dtype(like.dtype)), obs, empty(self._space, 0)
        )
        if self.count == 1:
            return obs, ()

        def stack(new: Tensor, old: Tensor) -> Tensor:
            new = new.unsqueeze(1)
            opens = first.view(-1, *[1] * (new.ndim - 1))
            return torch.cat((torch.where(opens, new.expand_as(old), old), new), 1)

        stacks = map_tree(stack, obs, before)
        return stacks, map_tree(lambda leaf: leaf[:, 1:], stacks)

    def observe(self, obs: Tree, mask: Tensor | None) -> Tree:
        """The observations as the agent sees them, but for the last action.

        Args:
            obs: From `frames`.
            mask: [B,n], if `env.action_mask=info`; else None.
        """
        if self._path is None:
            return self._changed(obs)
        (key,) = self._path
        if mask is None:
            mask = obs[key] if self.count == 1 else obs[key][:, -1]
            obs = without(obs, self._path)
        others = [name for name in self._keys if name != key]
        rest = self._changed(obs)
        rest = {others[0]: rest} if len(others) == 1 else rest
        allowed = self._free(mask != 0).to(torch.int8)
        return {name: allowed if name == key else rest[name] for name in self._keys}

    def _changed(self, obs: Tree) -> Tree:
        for change in self._changes:
            obs = change(obs)
        return obs

    def _free(self, mask: Tensor) -> Tensor:
        """The masks [B,n]; one in which a part of the action has no choice forbids nothing."""
        parts = mask.split(choices(self._actions), -1)
        possible = torch.stack([part.any(-1) for part in parts], -1).all(-1)
        return mask | ~possible.unsqueeze(-1)

    def with_last_action(self, obs: Tree, action: Tensor, reward: Tensor, first: Tensor) -> Tree:
        """The observations with the last action [B,A], as a vector, and its reward [B]."""
        reward = reward * self.config.reward_scale
        if self.config.reward_clip is not None:
            reward = reward.clamp(-self.config.reward_clip, self.config.reward_clip)
        opens = first.unsqueeze(-1)
        return {
            "last_action": torch.where(opens, 0.0, action),
            "last_reward": torch.where(opens, 0.0, reward.unsqueeze(-1)),
            "observation": obs,
        }

    def to_environment(self, action: Tensor) -> Tensor:
        """The agent's actions [B,*] as the environment takes them."""
        space = self._actions
        dtype = torch_dtype(space.dtype)
        if not isinstance(space, spaces.Box):
            return (action.long() + _int64(getattr(space, "start", 0))).to(dtype)
        low, high, bounded = bounds(space)
        if (low <= -FLOAT32).all() and (FLOAT32 <= high).all():
            return action.to(dtype)
        least, most = torch.from_numpy(low), torch.from_numpy(high)
        action = action.double()
        if self.config.rescale_actions and bounded:
            action = (least + most) / 2 + (most - least) / 2 * action
        if not dtype.is_floating_point:
            action = action.round()
        return action.clamp(least, most).to(dtype)


def torch_dtype(dtype: Any) -> torch.dtype:
    """PyTorch's word for a dtype of NumPy."""
    return torch.from_numpy(np.zeros(0, dtype)).dtype


def _of_observations(space: Space, config: EnvConfig) -> list[Change]:
    """The changes of `envs.wrappers.interface.of_observations`, in its order.

    Args:
        space: Of a given observation, without its mask.
        config: Of the environment.
    """
    changes = [_count_from_zero(space)]
    space = (transforms.count_from_zero(space) or (space,))[0]
    if config.mask_velocity:
        keep = transforms.positions(config.id)
        changes.append(lambda obs: obs[..., keep])
        space = transforms.without_velocity(space, config.id)[0]
    if config.frame_stack > 1:
        changes.append(_join_frames(space))
        space = transforms.join_frames(space)[0]
    if config.flatten:
        changes.append(_flatten(space))
    return changes


def _count_from_zero(space: Space) -> Change:
    starts = [getattr(leaf, "start", None) for leaf in space_leaves(space)]

    def subtract(obs: Tree) -> Tree:
        start = iter(starts)

        def counted(leaf: Tensor) -> Tensor:
            least = next(start)
            return leaf if least is None else leaf.long() - _int64(least)

        return map_tree(counted, obs)

    return subtract


def _int64(start: Any) -> Tensor:
    """A first choice; an unsigned one too large for int64 wraps, and so do sums with it."""
    return torch.from_numpy(np.asarray(start).astype(np.int64))


def _join_frames(space: Space) -> Change:
    axes = [getattr(leaf, "channel_axis", 0) for leaf in space_leaves(space)]

    def join(stack: Tensor, channel_axis: int | None) -> Tensor:
        if channel_axis is None:
            return stack
        if channel_axis == -1:
            return stack.movedim(1, 3).flatten(3)
        return stack.flatten(1, 2) if channel_axis else stack.flatten(1)

    def joined(obs: Tree) -> Tree:
        axis = iter(axes)
        return map_tree(lambda leaf: join(leaf, next(axis)), obs)

    return joined


def _flatten(space: Space) -> Change:
    found = space_leaves(space)

    def vector(obs: Tree) -> Tensor:
        pairs = zip(found, leaves(obs), strict=True)
        return torch.cat([part for leaf, array in pairs for part in _numbers(leaf, array)], 1)

    return vector


def _numbers(space: Space, array: Tensor) -> list[Tensor]:
    """The parts [B,*] of a leaf's vector: one-hot for each choice, else the numbers."""
    rows = array.reshape(array.shape[0], -1)
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return [rows.float()]
    sizes = choices(space)
    return [(rows[:, [i]] == torch.arange(size)).float() for i, size in enumerate(sizes)]
