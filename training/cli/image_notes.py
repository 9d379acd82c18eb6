"""What `neuraxis train` says of the images among the observations before it starts."""

from __future__ import annotations

from collections.abc import Iterator

from gymnasium import Space

from ...configs import Config
from ...core.images import ImageSpace, image_space
from ...networks.backbone import block_class
from ...networks.observation import leaf_spaces


def image_notes(space: Space, config: Config) -> Iterator[str]:
    """One line for each thing that was decided for images and that may be meant otherwise.

    Args:
        space: Observations, as the agent sees them.
        config: Of the run.
    """
    leaves = ((path, image_space(leaf)) for path, leaf in leaf_spaces(space))
    images = {
        "".join(["observation", *(f"[{key!r}]" for key in path)]): image
        for path, image in leaves
        if image is not None
    }
    pictures = ", ".join(name for name, image in images.items() if image.is_picture)
    if any(block_class(block.name).reads_images for block in config.network.blocks):
        if config.env.image_layout == "auto":
            yield from filter(None, map(_layout, images, images.values()))
    elif pictures:
        yield f"this network sees pictures as long vectors ({pictures}); network=cnn sees pictures"
    if pictures and getattr(config.agent, "normalize_observations", False):
        yield (
            f"agent.normalize_observations=true leaves pictures as they are ({pictures}): "
            "the network divides them by the bound of their space"
        )


def _layout(name: str, image: ImageSpace) -> str | None:
    """How an image with channels is read."""
    if image.channel_axis is None:
        return None
    last = image.channel_axis == -1
    *pixels, channels = image.shape if last else (*image.shape[1:], image.shape[0])
    return (
        f"{name} {image.shape} is read as {pixels[0]}x{pixels[1]} pixels with {channels} channels; "
        f"if that is wrong, use env.image_layout={'chw' if last else 'hwc'}"
    )
