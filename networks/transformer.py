"""The Transformer: attention over the last steps of the episode.

Shapes: T time, B columns, D model width, H heads of E = D / H, M remembered steps, S = M + T keys.
x [T,B,in], first [T,B], y [T,B,D]. The state is (count [1,B], one [2H,B,M,E] a layer): how many of
the last M steps are of the running episode, and the keys and values of those steps, oldest first.
Steps stand beside the numbers of one head because attention reads them so, twice as fast.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from . import twice
from .backbone import Backbone, BlockConfig
from .layers import HIDDEN_GAIN, Linear, drop, initialise
from .weight_norm import WeightNorm, normed

Memory = tuple[Tensor, ...]


class Transformer(Backbone):
    """Pre-LN attention over a window of the episode, with GTrXL's gates if wanted.

    "Stabilizing Transformers for Reinforcement Learning" by Parisotto et al. (2020), with a learned
    bias per head and distance instead of Transformer-XL's relative positions. A step sees itself
    and the M steps before it in its episode, however the sequence is cut into calls. No gradient
    flows into the memory.
    """

    class Config(BlockConfig, frozen=True):
        """Settings of the Transformer."""

        name: Literal["transformer"] = "transformer"
        """The word that chooses this block."""
        size: PositiveInt = 64
        """Model width D, which is also the number of features; a multiple of `heads`."""
        layers: PositiveInt = 2
        """Attention layers; L of them look back L * memory steps."""
        heads: PositiveInt = 4
        """Attention heads of each layer."""
        memory: PositiveInt = 64
        """Steps before its own that each step sees; time and memory grow with it."""
        feedforward: PositiveInt = 4
        """Width of the feed-forward part, in multiples of `size`."""
        gating: Literal["none", "gru"] = "none"
        """Residual sum, or GTrXL's gate, which starts close to the identity."""
        weight_norm: WeightNorm = "none"
        """Normalisation of weights, but for those of gates: spectral (the largest singular value
        becomes 1) or weight (direction and length of each row are learned apart)."""
        dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Part of each branch's outputs set to 0 in the update, never when acting."""

        @model_validator(mode="after")
        def _heads_divide_size(self) -> Transformer.Config:
            if self.size % self.heads:
                raise ValueError(f"size={self.size} is not a multiple of heads={self.heads}")
            return self

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(config, in_shape)
        self.heads = config.heads
        self.memory = config.memory
        self.out_size = config.size
        embed = initialise(Linear(in_shape[0], config.size), "orthogonal", 1.0)
        self.embed = normed(embed, config.weight_norm)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.size)

    def initial_state(self, batch: int) -> Memory:
        """No step remembered: count 0 and zeros."""
        weight = self.embed.weight
        count = torch.zeros(1, batch, dtype=torch.int64, device=weight.device)
        shape = (2 * self.heads, batch, self.memory, self.out_size // self.heads)
        return count, *(weight.new_zeros(shape) for _ in self.layers)

    def forward(self, x: Tensor, state: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """Maps x [T,B,in] to y [T,B,D]."""
        count, *caches = state
        visible, count = _window(count, first, self.memory)
        y = self.embed(x)
        after = []
        for layer, cache in zip(self.layers, caches, strict=True):
            y, cache = layer(y, cache, visible)
            after.append(cache)
        return self.norm(y), (count, *after)


class Layer(nn.Module):
    """Attention and feed-forward, each normalised before and joined to its input after."""

    packed: ClassVar[tuple[str, ...]] = ("project",)
    """Names of the layers whose output rows form several groups: queries, keys and values."""

    def __init__(self, config: Transformer.Config) -> None:
        super().__init__()
        size, hidden = config.size, config.size * config.feedforward
        self.heads = config.heads

        def linear(inputs: int, outputs: int, gain: float = 1.0, bias: bool = True) -> nn.Linear:
            layer = initialise(Linear(inputs, outputs, bias=bias), "xavier", gain)
            return normed(layer, config.weight_norm)

        self.norm = nn.LayerNorm(size)
        self.project = linear(size, 3 * size, bias=False)
        self.position = nn.Parameter(torch.zeros(config.heads, config.memory + 1))
        self.attended = linear(size, size)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(size),
            linear(size, hidden, HIDDEN_GAIN),
            nn.GELU(),
            linear(hidden, size),
            *drop(config.dropout),
        )
        self.drop = nn.Sequential(*drop(config.dropout))
        join = Gate if config.gating == "gru" else Sum
        self.join_attention, self.join_feedforward = join(size), join(size)

    def forward(self, x: Tensor, cache: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x [T,B,D], the cache [2H,B,M,E] and visible [B,T,S] to y and the new cache."""
        steps, memory = len(x), cache.shape[2]
        heads = self.project(self.norm(x)).unflatten(-1, (3 * self.heads, -1)).permute(2, 1, 0, 3)
        query, key_value = heads.split((self.heads, 2 * self.heads))  # [H,B,T,E], [2H,B,T,E]
        key_value = torch.cat((cache.detach(), key_value), 2)
        key, value = key_value.chunk(2)
        bias = self._position_bias(steps).masked_fill(~visible, -torch.inf)
        y = twice.attention(query, key, value, bias)
        x = self.join_attention(x, self.drop(self.attended(y.permute(2, 1, 0, 3).flatten(2))))
        x = self.join_feedforward(x, self.feedforward(x))
        return x, key_value[:, :, -memory:].detach()

    def _position_bias(self, steps: int) -> Tensor:
        """Bias [H,1,T,S] of step t for key s: `position[s - t]`, and -inf outside the window.

        Rows of S + 1 numbers read as rows of S: each is shifted by one against the row before.
        """
        if steps == 1:
            return self.position[:, None, None]
        keys = self.position.shape[1] - 1 + steps
        rows = F.pad(self.position, (0, steps), value=-torch.inf).unsqueeze(1)
        skewed = rows.expand(-1, steps, -1).flatten(1)[:, : steps * keys]
        return skewed.unflatten(1, (1, steps, keys))


class Sum(nn.Module):
    """The plain residual connection."""

    def __init__(self, size: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The input x plus what its branch made of it, y."""
        return x + y


class Gate(nn.Module):
    """GTrXL's GRU-style gate, which lets little of the branch through at the start."""

    START_BIAS = 2.0
    packed: ClassVar[tuple[str, ...]] = ("branch", "input")
    """Names of the layers whose output rows form several groups: gates."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.branch = initialise(Linear(size, 3 * size, bias=False), "xavier", 1.0)
        self.input = initialise(Linear(size, 2 * size), "xavier", 1.0)
        self.reset = initialise(Linear(size, size, bias=False), "xavier", 1.0)
        nn.init.constant_(self.input.bias[size:], -self.START_BIAS)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Moves x [...,D] towards a candidate made of x and the branch's y."""
        size = x.shape[-1]
        gates, candidate = self.branch(y.relu()).split((2 * size, size), -1)
        reset, update = (gates + self.input(x)).sigmoid().chunk(2, -1)
        return torch.lerp(x, (candidate + self.reset(reset * x)).tanh(), update)


def _window(count: Tensor, first: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    """Which keys are of the query's episode [B,T,S], and the count [1,B] after the last step."""
    episode = first.cumsum(0)  # the running one is 0
    age = torch.arange(memory, 0, -1, device=first.device).unsqueeze(1)
    remembered = (age <= count).long() - 1  # 0 or, for nothing, -1
    keys = torch.cat((remembered, episode))
    visible = keys.T.unsqueeze(1) == episode.T.unsqueeze(2)
    return visible, (keys[-memory:] == episode[-1]).sum(0, keepdim=True)
