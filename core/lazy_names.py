"""Names that a package gives at the first question, because their modules take long to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from .errors import require


def lazy_names(
    package: str, modules: Mapping[str, str], needs: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """A `__getattr__` for a package.

    Args:
        package: Its name.
        modules: By name, the module that has it, as `.relative`.
        needs: By name, a package of an extra without which it cannot be had.

    Returns:
        The function. It raises ImportError, in one line, for what is not installed.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            require(name, *([needs[name]] if needs and name in needs else ()))
        except ValueError as error:
            raise ImportError(str(error)) from error
        return getattr(import_module(modules[name], package), name)

    return get
