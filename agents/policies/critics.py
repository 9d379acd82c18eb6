"""Critics: the value of an observation and an action, several times."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ...core.tree import Tree, map_tree
from ...networks.backbone import (
    Backbone,
    BlockConfig,
    NetworkConfig,
    block_class,
    build,
    may_remember,
    read_block,
)
from ...networks.layers import linear
from .joint_actions import JointActions

Blocks = Sequence[BlockConfig]


class Critics(nn.Module):
    """Several independent estimates of Q(s, a), each with a network of its own.

    Continuous actions: without memory a backbone reads a Dict of observation and action through the
    ordinary encoder. With memory the blocks up to the last one that remembers read the observations
    alone, and the action joins their features, as in "Recurrent model-free RL can be a strong
    baseline for many POMDPs" by Ni et al. (2022), whose actor and critics have separate memories,
    too. So the memory comes from what really happened, whatever action is valued after it: one pass
    over a sequence serves the actions that were taken and those of a newer policy.
    `env.last_action=true` makes the earlier actions and rewards a part of it.

    Discrete actions: the network reads observations and has an output for each joint action.

    Args:
        network: It has the critics' blocks. Where only memory or an image block is before an action
            that is read, a block `mlp` follows: otherwise the value would be linear in it.
        observation_space: Observations as the policy's backbone gets them, see `Policy.inputs`.
        action_space: A Box, or discrete, see `JointActions`.
        count: How many estimates; SAC and TD3 have two, and their targets take the smaller.
        n_quantiles: M quantiles of the return are the value, [*, M]; 1: its mean alone, [*].
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        count: int = 2,
        n_quantiles: int = 1,
    ) -> None:
        super().__init__()
        self.joint = None if isinstance(action_space, spaces.Box) else JointActions(action_space)
        self.n_quantiles = n_quantiles
        remembering, joined = _divided(network.critic_blocks, reads_action=self.joint is None)
        self.memories, self.backbones = nn.ModuleList(), nn.ModuleList()
        space = observation_space
        for _ in range(count):
            if remembering:
                memory = build(remembering, observation_space)
                self.memories.append(memory)
                space = spaces.Box(-np.inf, np.inf, (memory.out_size,))
            both = {"observation": space} | ({} if self.joint else {"action": action_space})
            self.backbones.append(build(joined, spaces.Dict(both)))
        sizes = (b.out_size for b in self.backbones if isinstance(b, Backbone))
        outputs = n_quantiles * (self.joint.count if self.joint else 1)
        self.heads = nn.ModuleList(linear(size, outputs, gain=1.0) for size in sizes)

    def initial_state(self, batch: int) -> Tree:
        """The memories of `batch` columns that have seen nothing, one of each critic, or ()."""
        memories = (memory for memory in self.memories if isinstance(memory, Backbone))
        return tuple(memory.initial_state(batch) for memory in memories)

    def unroll(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tree, Tree]:
        """Remembers observations, tree of [T, B, *].

        Returns:
            What `values` takes: without memory the observations, otherwise the features of each
            critic; and the memories after row T-1.
        """
        if not self.memories:
            return obs, ()
        pairs = zip(self.memories, state, strict=True)
        features, after = zip(*(memory(obs, own, first) for memory, own in pairs), strict=True)
        return features, after

    def values(
        self, features: Tree, action: Tensor | None, first: Tensor, count: int | None = None
    ) -> Tensor:
        """Values [count, T, B] or, with quantiles, [count, T, B, M].

        Args:
            features: See `unroll`.
            action: [T, B, *act], whatever action; the memory does not depend on it. None, only if
                they are discrete: of all joint actions, [count, T, B, A] or [count, T, B, A, M].
            first: [T, B] bool.
            count: How many critics value them; None: all.
        """
        each = features if self.memories else (features,) * len(self.backbones)
        parts = list(zip(self.backbones, self.heads, each, strict=True))[:count]
        given = {} if self.joint else {"action": action}
        y = torch.stack(
            [head(body({"observation": x} | given, (), first)[0]) for body, head, x in parts]
        )
        if self.joint is not None:
            y = y.unflatten(-1, (self.joint.count, self.n_quantiles))
        y = y.squeeze(-1) if self.n_quantiles == 1 else y
        return y if self.joint is None or action is None else self.of(y, action)

    def jointly(
        self, features: Tree, taken: Tensor, action: Tensor | None, first: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values of the actions taken and of the next ones, in one pass.

        Args:
            features: See `unroll`, of rows 0 to T.
            taken: In the rows 0 to L-1, [L, B, *act].
            action: In the rows 1 to T, [T, B, *act]; None: all joint actions.
            first: [T+1, B] bool.

        Returns:
            See `values`: [count, L, B, *] and [count, T, B, *].
        """
        length = len(taken)
        both = map_tree(lambda x: torch.cat((x[:length], x[1:])), (features, first))
        given = None if action is None else torch.cat((taken, action))
        q, value = self.values(both[0], given, both[1]).tensor_split([length], 1)
        return self.of(q, taken) if action is None else q, value

    def of(self, values: Tensor, action: Tensor) -> Tensor:
        """Of the values [count, T, B, A, *] of all joint actions, those of actions [T, B, *act]."""
        assert self.joint is not None
        index = self.joint.index(action).view(1, *values.shape[1:3], *[1] * (values.ndim - 3))
        return values.take_along_dim(index, 3).squeeze(3)

    def forward(self, obs: Tree, action: Tensor | None, first: Tensor, state: Tree = ()) -> Tensor:
        """See `values`, of observations, tree of [T, B, *]."""
        return self.values(self.unroll(obs, state, first)[0], action, first)


def _divided(blocks: Blocks, reads_action: bool) -> tuple[Blocks, Blocks]:
    """The blocks up to the last one with memory, and the others, which may read an action."""
    end = max((place for place, block in enumerate(blocks, 1) if may_remember(block)), default=0)
    joined = blocks[end:]
    if reads_action and all(block_class(block.name).reads_images for block in joined):
        joined = [*joined, read_block({"name": "mlp"})]
    return blocks[:end], joined
