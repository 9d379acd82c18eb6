"""Networks: blocks, the chains built of them, and action heads.

A new block is one file here with a `Backbone` inside; `block_class` finds it by its name.
"""

from .backbone import (
    Backbone,
    BlockConfig,
    Chain,
    NetworkConfig,
    State,
    block_class,
    block_names,
    build,
)
from .heads.by_space import action_head
from .heads.distribution import ActionHead
from .heads.gaussian import GaussianConfig
from .layers import Init, initialise

__all__ = [
    "ActionHead",
    "Backbone",
    "BlockConfig",
    "Chain",
    "GaussianConfig",
    "Init",
    "NetworkConfig",
    "State",
    "action_head",
    "block_class",
    "block_names",
    "build",
    "initialise",
]
