"""The layers of a network from the input to the output, whatever its blocks are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest

from torch import nn

from .backbone import Backbone
from .observation import Encoder, Image

Layer = list[nn.Parameter]


def layers(module: nn.Module) -> list[Layer]:
    """The parameters of each layer of a network, the first layer first.

    A layer is an element with a weight matrix in a list of modules: a fully connected or
    convolutional layer, a residual or an attention block. Each layer of an LSTM or GRU counts as
    one, too. An element without a matrix, such as a norm, belongs to the layer before it. The
    encoders of the parts of an observation have the same depth.
    """
    found: list[Layer] = []
    for part in _parts(module):
        if found and not (_has_matrix(part) and _has_matrix(found[-1])):
            found[-1] = found[-1] + part
        else:
            found.append(part)
    return found


def _has_matrix(layer: Layer) -> bool:
    return any(parameter.ndim > 1 for parameter in layer)


def _parts(module: nn.Module) -> Iterator[Layer]:
    if isinstance(module, Encoder):
        beside = zip_longest(*(reversed(layers(leaf)) for leaf in module.leaves), fillvalue=[])
        yield from (list(chain(*level)) for level in reversed(list(beside)))
    elif isinstance(module, nn.RNNBase):
        yield from (list(weights) for weights in module.all_weights)
    elif isinstance(module, Backbone | Image | nn.Sequential | nn.ModuleList):
        if own := list(module.parameters(recurse=False)):
            yield own
        for child in module.children():
            yield from _parts(child)
    elif parameters := list(module.parameters()):
        yield parameters
