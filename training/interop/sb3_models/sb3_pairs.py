"""A tensor of ours and the one of Stable-Baselines3 with the same numbers, in their own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ....networks.observation import Encoder, Image, OneHot, Vector


class Pair(NamedTuple):
    """A tensor of theirs, and where it is in one of ours: theirs[i, j] = ours[rows[i], columns[j]].

    In ours, numbers may stand in another order, several may be joined, and an input may arrive
    divided by a constant: then ours[...] = theirs[...] * factor.
    """

    ours: str
    theirs: str
    rows: Tensor | None = None
    columns: Tensor | None = None
    factor: Tensor | None = None
    transposed: bool = False

    def give(self, ours: Tensor) -> Tensor:
        """Theirs, of ours."""
        if self.rows is not None:
            ours = ours[self.rows]
        if self.columns is not None:
            ours = ours[:, self.columns]
        if self.factor is not None:
            ours = ours / self.factor
        return (ours.T if self.transposed else ours).contiguous()

    def put(self, ours: Tensor, theirs: Tensor) -> None:
        """Writes theirs into ours."""
        if self.transposed:
            theirs = theirs.T
        if self.factor is not None:
            theirs = theirs * self.factor
        rows = torch.arange(len(ours)) if self.rows is None else self.rows
        if self.columns is None:
            ours[rows] = theirs
        else:
            ours[rows[:, None], self.columns] = theirs


class Inputs(NamedTuple):
    """What a network of ours reads, and in which order theirs reads it."""

    encoder: Encoder
    keys: Sequence[str]
    """Of the environment's Dict, in its order; none for other observations."""
    has_action: bool
    """Whether it reads an action, which theirs has after all observations."""

    def leaves(self) -> Iterator[tuple[str | None, Vector | OneHot | Image]]:
        """The key and the encoder of each leaf in our order; None is the action, "" no Dict."""
        for path, leaf in zip(self.encoder.paths, self.encoder.leaves, strict=True):
            key = path[1:] if self.has_action else path
            is_action = self.has_action and path[0] == "action"
            assert isinstance(leaf, Vector | OneHot | Image)
            yield None if is_action else str(key[0]) if key else "", leaf

    def images(self) -> Iterator[tuple[int, str, Image]]:
        """The place, the key and the encoder of each leaf with convolutions."""
        for number, (key, leaf) in enumerate(self.leaves()):
            if isinstance(leaf, Image) and key is not None:
                yield number, key, leaf

    def order(self) -> tuple[Tensor | None, Tensor | None]:
        """Their inputs as columns of ours, and by what ours are divided; None: nothing differs."""
        columns: dict[str | None, Tensor] = {}
        factors: dict[str | None, Tensor] = {}
        begin = 0
        for key, leaf in self.leaves():
            size = leaf.out_size
            columns[key] = torch.arange(begin, begin + size)
            scale = leaf.scale if isinstance(leaf, Vector) else None
            factors[key] = torch.ones(size) if scale is None else 1 / scale.expand(size)
            begin += size
        order = [*self.keys, *(key for key in columns if key == "")]
        order += [None] if self.has_action else []
        joined = torch.cat([columns[key] for key in order])
        factor = torch.cat([factors[key] for key in order])
        same = bool((joined == torch.arange(begin)).all())
        return None if same else joined, None if bool((factor == 1).all()) else factor


def layer(
    ours: str, theirs: str, inputs: Inputs | None = None, rows: Tensor | None = None
) -> Iterator[Pair]:
    """The pairs of a layer's weight and bias.

    Args:
        ours: Its name in ours.
        theirs: Its name there.
        inputs: What the network reads, if this layer is the first one; None: it is not.
        rows: See `Pair`.
    """
    columns, factor = (None, None) if inputs is None else inputs.order()
    yield Pair(f"{ours}.weight", f"{theirs}.weight", rows, columns, factor)
    yield Pair(f"{ours}.bias", f"{theirs}.bias", rows)
