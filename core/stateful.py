"""What a checkpoint holds."""

from __future__ import annotations

from typing import Any, Protocol


class Stateful(Protocol):
    """A part of a run whose state a checkpoint holds: a module, a replay, an agent, a source."""

    def state_dict(self) -> Any:
        """A tree of tensors, arrays and JSON scalars."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Goes back to where `state_dict` stood."""
        ...
