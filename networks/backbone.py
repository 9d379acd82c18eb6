"""The backbone: observations and memory in, features and memory out.

    y [T,B,D], state = backbone(x [T,B,*], state, first [T,B])

T is time, B the columns of the batch (axis 1 in every tensor), D the features. `first[t]` says that
row t opens an episode: everything before it is forgotten. Acting is the same call with T = 1.

A network in the config is a list of blocks: `[{name: cnn}, {name: lstm, size: 256}]`. A block is
found by its file: the name of a file in this package, or the dotted name of a module outside
(`my_package.my_block`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from gymnasium import Space
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from torch import Tensor, nn

from ..core.errors import nearest
from ..core.registry import find_class, summaries
from .observation import Encoder

_PACKAGE = "neuraxis.networks"
State = Any  # a tree (tuples) of tensors [*, B, *]; () for a network without memory


class BlockConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The fields of every block's config."""

    name: str
    """The block's file in `networks/`, or the dotted name of a module of your own."""


class Backbone(nn.Module):
    """A network from x [T,B,*in_shape] to y [T,B,out_size] whose memory is an argument.

    A block is a subclass, with its `Config` inside, in a file of this package or alone in a module
    of your own.
    """

    Config: ClassVar[type[BlockConfig]]
    reads_images: ClassVar[bool] = False
    """Maps images [T,B,C,H,W] to features: it is the first block of a chain and has no memory."""
    out_size: int

    def __init__(self, config: Any, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def initial_state(self, batch: int) -> State:
        """The memory of `batch` columns that have seen nothing; `()` where there is no memory."""
        return ()

    def forward(self, x: Any, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Maps x, the state before it and first [T,B] to y and the state after it."""
        raise NotImplementedError


class Chain(Backbone):
    """An encoder of observations followed by blocks; its state is the tuple of theirs."""

    def __init__(self, encoder: Encoder, blocks: Sequence[Backbone]) -> None:
        super().__init__(None, ())
        self.encoder = encoder
        self.blocks = nn.ModuleList(blocks)
        self.out_size = blocks[-1].out_size if blocks else encoder.out_size
        self.has_memory = any(block.initial_state(1) != () for block in blocks)

    def initial_state(self, batch: int) -> State:
        """The states of the blocks; `()` if none of them has memory."""
        blocks = [block for block in self.blocks if isinstance(block, Backbone)]
        return tuple(block.initial_state(batch) for block in blocks) if self.has_memory else ()

    def forward(self, x: Any, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Maps a tree of observations [T,B,*] to y [T,B,out_size]."""
        y = self.encoder(x, first)
        if not self.has_memory:
            for block in self.blocks:
                y, _ = block(y, (), first)
            return y, ()
        states = []
        for block, before in zip(self.blocks, state, strict=True):
            y, after = block(y, before, first)
            states.append(after)
        return y, tuple(states)


def block_names() -> list[str]:
    """The names of the blocks of this package."""
    return list(summaries(_PACKAGE))


def block_class(name: str) -> type[Backbone]:
    """The block that a name chooses: a file of this package, or the dotted name of a module.

    Raises:
        ValueError: There is no such block, or its module cannot be imported.
    """
    return find_class(Backbone, _PACKAGE, name, place=f"block {name!r}", noun="block")


def may_remember(config: BlockConfig) -> bool:
    """Whether a block is of a class that can have memory."""
    return block_class(config.name).initial_state is not Backbone.initial_state


def read_block(value: Any) -> BlockConfig:
    """The config of one block from a mapping with its name.

    Raises `ValueError`, in one line, for an unknown name, field or value.
    """
    if isinstance(value, BlockConfig):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(f"expected a block like {{name: mlp}}, got {value!r}")
    config = block_class(value["name"]).Config
    try:
        return config.model_validate(value)
    except ValidationError as error:
        raise ValueError(_one_line(error, value["name"], list(config.model_fields))) from error


def _one_line(error: ValidationError, name: str, fields: list[str]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = nearest(key, fields)
        return f"block {name!r} has no field {key!r}{hint} (choices: {', '.join(fields)})"
    message = first["msg"].removeprefix("Value error, ")
    return f"block {name!r}: " + (f"{key}={first['input']!r}: {message}" if key else message)


Blocks = tuple[Annotated[SerializeAsAny[BlockConfig], BeforeValidator(read_block)], ...]


class NetworkConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The backbone of an agent."""

    blocks: Blocks = Field(default_factory=lambda: (read_block({"name": "mlp"}),))
    """The blocks from the observations to the features, each with its `name` and its fields."""
    shared: bool = False
    """Whether actor and critic share one backbone; two are steadier, one is half the work."""
    critic: Blocks | None = None
    """The blocks of an actor-critic's critics; null: those of `blocks`."""

    @model_validator(mode="after")
    def _two_backbones(self) -> NetworkConfig:
        if self.shared and self.critic is not None:
            raise ValueError("shared=true: expected false where critic has blocks of its own")
        return self

    @property
    def critic_blocks(self) -> Blocks:
        """The blocks of the critics."""
        return self.blocks if self.critic is None else self.critic


def build(blocks: Sequence[BlockConfig], observation_space: Space) -> Chain:
    """Builds the chain of blocks for the observations of a space, the encoder before them.

    Raises `ValueError` for a space that has no encoder, a block of images where there is no image
    or that is not the first, and images too small for it.
    """
    classes = [block_class(config.name) for config in blocks]
    for config, cls in list(zip(blocks, classes, strict=True))[1:]:
        if cls.reads_images:
            raise ValueError(f"network: block {config.name!r} reads images, it must be the first")
    if classes and classes[0].reads_images:
        encoder = Encoder(observation_space, functools.partial(_image_block, blocks[0]))
        blocks, classes = blocks[1:], classes[1:]
    else:
        encoder = Encoder(observation_space)
    links: list[Backbone] = []
    size = encoder.out_size
    for config, cls in zip(blocks, classes, strict=True):
        links.append(cls(config, (size,)))
        size = links[-1].out_size
    return Chain(encoder, links)


def _image_block(config: BlockConfig, in_shape: tuple[int, ...]) -> tuple[Backbone, int]:
    block = block_class(config.name)(config, in_shape)
    return block, block.out_size
