"""Networks: blocks, the chains built of them, and action heads.

A new block is one file here with a `Backbone` inside; `block_class` finds it by its config's name.
"""

from .backbone import (
    Backbone,
    BlockConfig,
    Chain,
    NetworkConfig,
    State,
    block_class,
    block_classes,
    build,
)
from .heads import ActionHead, action_head
from .layers import Init, initialise

__all__ = [
    "ActionHead",
    "Backbone",
    "BlockConfig",
    "Chain",
    "Init",
    "NetworkConfig",
    "State",
    "action_head",
    "block_class",
    "block_classes",
    "build",
    "initialise",
]
