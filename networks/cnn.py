"""Convolutional blocks for images."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from .backbone import Backbone, BlockConfig, State
from .layers import Init, Linear, Norm, drop, image_norm, initialise, vector_norm
from .weight_norm import WeightNorm, normed


class CNN(Backbone):
    """Convolutions over each image, then one fully connected layer; no memory.

    nature: "Human-level control through deep reinforcement learning" by Mnih et al. (2015).
    impala: the residual network of "IMPALA" by Espeholt et al. (2018), figure 3.
    small: two layers for images of 5 to 20 pixels, such as MinAtar's and MiniGrid's.
    minatar: the one layer of "MinAtar" by Young and Tian (2019), the fastest; never by `auto`.
    auto: nature from 36x36 pixels on, small for 5x5 to 20x20, impala for all others.
    """

    class Config(BlockConfig, frozen=True):
        """Settings of the convolutional network."""

        name: Literal["cnn"] = "cnn"
        """The word that chooses this block."""
        architecture: Literal["auto", "nature", "impala", "small", "minatar"] = "auto"
        """nature for 84x84 pixels, impala stronger and slower, small for 7x7 or 10x10, minatar
        with one layer; auto: by the image's size."""
        size: PositiveInt = 512
        """Features that the last, fully connected layer makes of an image."""
        pooling: Literal["none", "max", "avg", "global"] = "none"
        """What follows the convolutions: 2x2 maximum or average, or the average of all pixels."""
        norm: Norm = "none"
        """Normalisation between each layer and its ReLU."""
        weight_norm: WeightNorm = "none"
        """Normalisation of each layer's weights: spectral (the largest singular value becomes 1) or
        weight (direction and length of each row are learned apart)."""
        dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Part of the features set to 0 in the update, never when acting."""
        init: Init = "orthogonal"
        """Start weights: orthogonal (gain sqrt 2), xavier, kaiming, or PyTorch's default."""

    reads_images = True

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(config, in_shape)
        architectures = {"nature": _nature, "impala": _impala, "small": _small, "minatar": _minatar}
        chosen = config.architecture
        self.architecture = _by_size(*in_shape[1:]) if chosen == "auto" else chosen
        convolutions = architectures[self.architecture](in_shape[0], config)
        self.features = nn.Sequential(*convolutions, *_pool(config.pooling), nn.Flatten())
        count = self._count(in_shape, config.pooling)
        linear = Linear(count, config.size, bias=not config.norm.startswith("batch"))
        self.head = nn.Sequential(
            normed(initialise(linear, config.init), config.weight_norm),
            *vector_norm(config.norm, config.size),
            nn.ReLU(inplace=True),
            *drop(config.dropout),
        )
        self.out_size = config.size

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Maps images x [T,B,C,H,W], floats, to y [T,B,size]."""
        images = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.head(self.features(images).unflatten(0, first.shape)), state

    @torch.no_grad()
    def _count(self, in_shape: tuple[int, ...], pooling: str) -> int:
        """The number of features of an image [C,H,W], found by running an image of zeros."""
        self.features.eval()  # else it would change the statistics of batch normalisation
        try:
            count = self.features(torch.zeros(1, *in_shape)).shape[-1]
        except RuntimeError as error:
            channels, height, width = in_shape
            raise ValueError(
                f"block 'cnn': an image of {height}x{width} pixels and {channels} channels is too "
                f"small for architecture={self.architecture}, pooling={pooling}; "
                "`small` takes 5x5 pixels and more, `minatar` 3x3, `impala` any, `nature` 36x36"
            ) from error
        self.features.train()
        return count


def _by_size(height: int, width: int) -> str:
    """The architecture for an image; on larger ones `small` would have too many features."""
    shorter, longer = sorted((height, width))
    if shorter >= 36:
        return "nature"
    return "small" if shorter >= 5 and longer <= 20 else "impala"


def _convolution(
    config: CNN.Config, in_channels: int, channels: int, kernel: int, stride: int = 1, pad: int = 0
) -> list[nn.Module]:
    bias = not config.norm.startswith("batch")
    layer = initialise(
        nn.Conv2d(in_channels, channels, kernel, stride, pad, bias=bias), config.init
    )
    return [normed(layer, config.weight_norm), *image_norm(config.norm, channels)]


def _nature(channels: int, config: CNN.Config) -> list[nn.Module]:
    return [
        *_convolution(config, channels, 32, 8, 4),
        nn.ReLU(inplace=True),  # 13 MB in a minibatch of 256 Atari frames
        *_convolution(config, 32, 64, 4, 2),
        nn.ReLU(inplace=True),
        *_convolution(config, 64, 64, 3),
        nn.ReLU(inplace=True),
    ]


def _small(channels: int, config: CNN.Config) -> list[nn.Module]:
    return [
        *_convolution(config, channels, 16, 3),
        nn.ReLU(inplace=True),
        *_convolution(config, 16, 32, 3),
        nn.ReLU(inplace=True),
    ]


def _minatar(channels: int, config: CNN.Config) -> list[nn.Module]:
    return [*_convolution(config, channels, 16, 3), nn.ReLU(inplace=True)]


class Residual(nn.Module):
    """x + convolution(relu(convolution(relu(x)))), the block of IMPALA's network."""

    def __init__(self, channels: int, config: CNN.Config) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            *_convolution(config, channels, channels, 3, pad=1),
            nn.ReLU(),
            *_convolution(config, channels, channels, 3, pad=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N,C,H,W] to the same shape."""
        return x + self.branch(x)


def _impala(channels: int, config: CNN.Config) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for out_channels in (16, 32, 32):
        layers += _convolution(config, channels, out_channels, 3, pad=1)
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        layers += [Residual(out_channels, config), Residual(out_channels, config)]
        channels = out_channels
    return [*layers, nn.ReLU()]


def _pool(pooling: str) -> list[nn.Module]:
    if pooling == "none":
        return []
    layers = {"max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2), "global": nn.AdaptiveAvgPool2d(1)}
    return [layers[pooling]]
