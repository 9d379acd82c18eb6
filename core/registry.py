"""Classes that are found by their file: agents in `agents/`, blocks in `networks/`.

A file offers a choice when a class in it has its settings inside, as `class Config(...)`. The
choice has the name of the file, and the first line of the file's docstring describes it. Listing
reads the text of the files and imports none, so that `neuraxis list` does not wait for PyTorch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from .errors import Guard, nearest

C = TypeVar("C")
PROGRAM = "__main__"
"""The module of the program that runs, which no other program can import."""
# pydantic parses the source of settings that are imported, and Python must not do so in two threads
# at a time (python/cpython#106905). A module may import another one.
_importing = threading.RLock()
_OFFERS_A_CHOICE = re.compile(r"^    class Config\(", re.MULTILINE)
_SUMMARY = re.compile(r'"""(.*)')  # the first line of a docstring


@functools.cache
def summaries(package: str) -> dict[str, str]:
    """The choices that the files of a package offer, each with its one line, sorted by name."""
    spec = importlib.util.find_spec(package)  # does not import it
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = {}
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if _OFFERS_A_CHOICE.search(text):
            summary = _SUMMARY.match(text)
            found[file.stem] = summary[1].removesuffix('"""') if summary else ""
    return found


def find_class(base: type[C], package: str, name: str, place: str, noun: str) -> type[C]:
    """The class that a name chooses.

    Args:
        base: The class that it must be a subclass of.
        package: Where the choices are, `neuraxis.agents` for instance.
        name: A choice, the dotted name of a person's own module, or MODULE:CLASS.
        place: Opens the message of an error, `agent=NAME` for instance.
        noun: What is chosen, "agent" for instance.

    Raises:
        ValueError: There is no such choice, the module cannot be imported, or it does not have
            the class, or without a class exactly one.
    """
    name, _, own = name.partition(":")
    if own:
        chosen = getattr(import_own(name, place), own, None)
        if isinstance(chosen, type) and issubclass(chosen, base) and hasattr(chosen, "Config"):
            return chosen
        raise ValueError(f"{place}: {name} has no subclass of {base.__name__} with its Config")
    if "." not in name:
        known = summaries(package)
        if name not in known:
            hint = nearest(name, known)
            raise ValueError(f"{place}: no such {noun}{hint} (choices: {', '.join(known)})")
        with _importing:
            module = importlib.import_module(f"{package}.{name}")
    else:
        module = import_own(name, place)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and hasattr(value, "Config")  # what several classes share has none
    ]
    if len(found) != 1:
        expected = f"a module with one subclass of {base.__name__} and its Config inside"
        raise ValueError(f"{place}: expected {expected}, found {len(found)}")
    return found[0]


def import_own(module: str, place: str) -> ModuleType:
    """Imports a person's own module, which may lie in the current directory.

    Raises:
        ValueError: It cannot be imported; `place` opens the message.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    with Guard(lambda: place, ValueError), _importing:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:  # not one that the module imports
                error.msg += nearest(module, {file.stem for file in Path().glob("*.py")})
            raise
