"""Our backbones as features extractors of Stable-Baselines3.

arguments = {"features_extractor_class": Sb3Extractor}
arguments["features_extractor_kwargs"] = {"network": "cnn_impala"}
PPO("CnnPolicy", env, policy_kwargs=arguments)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from ... import configs
from ...core.images import ImageSpace
from ...core.tree import Tree, leaves, map_tree
from ...networks.backbone import build, read_block


class Sb3Extractor(BaseFeaturesExtractor):
    """A network of ours without memory, from the library's observations [B,*] to features [B,D].

    Args:
        observation_space: As the library gives it, images as [C,H,W].
        network: A choice of `network=`, or a list of blocks: `[{"name": "mlp", "sizes": [128]}]`.

    Raises:
        ValueError: There is no such network, it has memory, or it does not fit the observations.
    """

    def __init__(
        self, observation_space: gymnasium.Space, network: str | Sequence[dict[str, Any]] = "mlp"
    ) -> None:
        if isinstance(network, str):
            blocks = configs.load([f"network={network}"]).network.blocks
        else:
            blocks = [*map(read_block, network)]
        chain = build(blocks, preprocessed(observation_space))
        if chain.has_memory:
            raise ValueError(
                f"network={network}: it has memory, and Stable-Baselines3 keeps none for an "
                "extractor of features; expected a network without, mlp or cnn"
            )
        super().__init__(observation_space, chain.out_size)
        self.chain = chain

    def forward(self, observations: Tree) -> Tensor:
        """Maps observations [B,*], preprocessed by the library, to features [B,D]."""
        rows = map_tree(lambda leaf: leaf[None], observations)
        some = next(leaves(rows))
        first = torch.zeros(some.shape[:2], dtype=torch.bool, device=some.device)
        return self.chain(rows, (), first)[0][0]


def preprocessed(space: gymnasium.Space) -> gymnasium.Space:
    """The space of what the library makes of observations before an extractor.

    Images of bytes are divided by 255, and what is discrete becomes one-hot.
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: preprocessed(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Box):
        if is_image_space(space):
            zeros = np.zeros(space.shape, np.float32)
            return ImageSpace(zeros, zeros + 1, channel_axis=-3)
        return space
    # A replay has one more axis than a rollout: two are flattened, whatever comes.
    return spaces.Box(0.0, 1.0, (1, get_flattened_obs_dim(space)))
