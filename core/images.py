"""Images among the observations: which Boxes are read as images, and which axis is the channels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from gymnasium import spaces

Layout = Literal["auto", "hwc", "chw"]

SMALLEST = 8  # pixels a side: a smaller matrix of floats is a stack of vectors
COLOURS = 4  # the most channels of a picture: red, green, blue and a fourth, or four grey frames


class ImageSpace(spaces.Box):
    """A Box [*,H,W,C], [*,C,H,W] or [*,H,W] whose layout is known.

    Args:
        low: Lower bounds.
        high: Upper bounds.
        channel_axis: -1, -3, or None where there is one channel and no axis for it.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, channel_axis: int | None) -> None:
        super().__init__(low, high, dtype=low.dtype.type)
        self.channel_axis = channel_axis

    @property
    def is_picture(self) -> bool:
        """Whether it has the values of pictures: bytes, or channels in [0, 1] or [0, 255]."""
        bounds = self.low.min(), self.high.max()
        has_channels = self.channel_axis is not None
        return self.dtype == np.uint8 or (has_channels and bounds in ((0, 1), (0, 255)))


def image_space(space: spaces.Space, layout: Layout = "auto", stack: int = 0) -> ImageSpace | None:
    """The space as a layer of convolutions can read it; None if it cannot.

    Args:
        space: Of one observation, or of one that is stacked.
        layout: Of images with three axes; auto: guessed from their sides.
        stack: How many axes of the stack precede the image's: 0 or 1.
    """
    if isinstance(space, ImageSpace) or not isinstance(space, spaces.Box):
        return space if isinstance(space, ImageSpace) else None
    sides = space.shape[stack:]
    if len(sides) == 3:
        first = _channels_first(sides) if layout == "auto" else layout == "chw"
        return ImageSpace(space.low, space.high, -3 if first else -1)
    if len(sides) == 2 and (space.dtype == np.uint8 or min(sides) >= SMALLEST):
        return ImageSpace(space.low, space.high, None)
    return None


def _channels_first(sides: tuple[int, ...]) -> bool:
    """Whether an image is [C,H,W] rather than [H,W,C].

    The channels are a short axis at one end, beside two long ones. If that does not decide, the two
    neighbouring axes that are more alike are height and width.
    """
    a, b, c = sides
    first, last = a <= COLOURS and min(b, c) >= SMALLEST, c <= COLOURS and min(a, b) >= SMALLEST
    if first != last:
        return first
    return max(b, c) * min(a, b) < max(a, b) * min(b, c)
