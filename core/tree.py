"""Trees: nested dicts and tuples with arrays at the leaves.

Observations of Dict and Tuple spaces and the memories of backbones are trees. `()` is the tree
without leaves: the memory of a network that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Tree = Any
"""`dict[str, Tree] | tuple[Tree, ...] | np.ndarray | torch.Tensor`.

To type checkers it is Any: the observation space or the backbone decides which of the three a tree
is, and code that indexes a tree knows which.
"""


def map_tree(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Applies `fn` to each leaf, and to the leaves of `rest` that stand in the same places."""
    if isinstance(tree, dict):
        return {key: map_tree(fn, tree[key], *(other[key] for other in rest)) for key in tree}
    if isinstance(tree, tuple):
        return tuple(map_tree(fn, *branches) for branches in zip(tree, *rest, strict=True))
    return fn(tree, *rest)


def leaves(tree: Tree) -> Iterator[Any]:
    """Yields the leaves from left to right."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree
