"""Augmentation of observations: random shifts of images, and noise; in learning only.

"Image augmentation is all you need" by Kostrikov et al. (2020), DrQ: an image is shifted by a few
pixels, and what leaves it on one side is repeated at the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from pydantic import BaseModel, Field
from torch import Tensor

from ..core.action_mask import ActionMask
from ..core.errors import shorten
from ..core.images import ImageSpace, image_space
from ..core.tree import Tree
from ..networks.observation import Path, leaf_spaces
from .policies.normalize import Normalizer
from .policies.policy import Policy

LARGEST = 2**16
"""A greater bound is the limit of a dtype and not of a brightness."""


class AugmentConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Settings of the augmentation of observations."""

    shift: int = Field(default=0, ge=0)
    """Most pixels by which images are shifted, each way (DrQ: 4 of 84); 0: none."""
    noise: float = Field(default=0.0, ge=0)
    """Deviation of the noise on all numbers of Box observations, in units of their running
    deviation (`normalize_observations`), of the brightest value (images), or of 1; 0: none."""


@dataclass(frozen=True)
class Part:
    """A Box among the observations."""

    picture: ImageSpace | None
    """Its space, if it has the values of a picture."""
    largest: float
    """What a number is divided by before the network reads it."""
    normalizer: Normalizer | None
    """Its running statistics."""

    def unit(self) -> Tensor | float:
        """What a deviation of 1 is, a number or [*obs]."""
        if self.normalizer is not None and self.normalizer.active:
            return self.normalizer.variance.sqrt().float()
        return self.largest


class Augmentation:
    """Changes observations at random.

    Args:
        config: Its settings, of which at least one is above 0.
        policy: Whose observations they are.

    Raises:
        ValueError: There is no image that can be shifted by so many pixels, or no Box.
    """

    def __init__(self, config: AugmentConfig, policy: Policy) -> None:
        self.config = config
        self.parts = dict(_parts(policy.observation_space, policy.normalizer))
        pictures = [part.picture for part in self.parts.values() if part.picture is not None]
        where = shorten(policy.observation_space)
        if config.noise and not self.parts:
            raise ValueError(f"agent.augment.noise={config.noise}: there is no Box in {where}")
        if config.shift and not pictures:
            raise ValueError(f"agent.augment.shift={config.shift}: there is no image in {where}")
        least = min((min(_sides(picture)) for picture in pictures), default=0)
        if config.shift >= max(least, 1) and config.shift:
            raise ValueError(
                f"agent.augment.shift={config.shift}: expected less than the {least} pixels of an "
                "image"
            )

    def __call__(self, obs: Tree) -> Tree:
        """Changes observations, tree of [T, N, *obs].

        The shift is one for all T steps of a sequence: so both sides of a target have the same. The
        noise of each step is its own.
        """
        return self._changed(obs, ())

    def _changed(self, tree: Tree, path: Path) -> Tree:
        if isinstance(tree, dict):
            return {key: self._changed(below, (*path, key)) for key, below in tree.items()}
        if isinstance(tree, tuple):
            return tuple(self._changed(below, (*path, i)) for i, below in enumerate(tree))
        part = self.parts.get(path)
        if part is None:
            return tree
        if self.config.shift and part.picture is not None:
            tree = shifted(tree, part.picture, self.config.shift)
        if self.config.noise:
            noise = torch.randn(tree.shape).to(tree.device)
            tree = tree.float() + noise * (self.config.noise * part.unit())
        return tree


def augmentation(config: AugmentConfig, policy: Policy) -> Augmentation | None:
    """What the settings ask for; None: nothing."""
    return Augmentation(config, policy) if config.shift or config.noise else None


def shifted(images: Tensor, space: ImageSpace, most: int) -> Tensor:
    """Shifts images by up to so many pixels, the same way in all steps of a column.

    Args:
        images: [T, N, *image].
        space: Of one image.
        most: Of pixels, up or down and left or right.
    """
    count, (height, width) = images.shape[1], _sides(space)
    rows, columns = (_places(side, count, most).to(images.device) for side in (height, width))
    column = torch.arange(count, device=images.device)[:, None, None]
    first = space.channel_axis == -3
    if first:
        images = images.movedim(2, -1)
    images = images[:, column, rows[:, :, None], columns[:, None, :]]
    return images.movedim(-1, 2) if first else images


def _places(side: int, count: int, most: int) -> Tensor:
    """For each pixel along a side, the pixel that it is taken from: [count, side]."""
    offset = torch.randint(-most, most + 1, (count, 1))
    return (torch.arange(side) + offset).clamp(0, side - 1)


def _sides(space: ImageSpace) -> tuple[int, int]:
    """Height and width of an image."""
    shape: Any = space.shape
    if space.channel_axis is None:
        return shape[0], shape[1]
    return (shape[1], shape[2]) if space.channel_axis == -3 else (shape[0], shape[1])


def _parts(space: Space[Any], normalizer: Normalizer | None) -> Iterator[tuple[Path, Part]]:
    """The Boxes of a space, each with its path."""
    found = [pair for pair in leaf_spaces(space) if not isinstance(pair[1], ActionMask)]
    statistics = [None] * len(found) if normalizer is None else list(_leaves(normalizer))
    for (path, leaf), own in zip(found, statistics, strict=True):
        if not isinstance(leaf, spaces.Box):
            continue
        image, high = image_space(leaf), float(np.max(leaf.high))
        scaled = (image is not None or leaf.dtype == np.uint8) and 0 < high < LARGEST
        picture = image if image is not None and image.is_picture else None
        yield path, Part(picture, high if scaled else 1.0, own)


def _leaves(normalizer: Normalizer) -> Iterator[Normalizer]:
    """The normalisers of single leaves, in the order of the space's leaves."""
    if not normalizer.parts:
        yield normalizer
    for part in normalizer.parts.values():
        yield from _leaves(part)
