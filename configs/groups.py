"""The choices behind `agent=`, `env=`, `network=`, `experiment=`, read without importing PyTorch.

A choice is a YAML file in the folder of its group, whose first line is a comment that says what it
is. Agents are also found by their file in `agents/`. One's own file is a choice, too: a path that
ends in `.yaml`.
"""

import ast
import difflib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .text import parse

GROUPS = ("agent", "env", "network", "experiment")


def package(name: str) -> Path:
    """Folder of the package `neuraxis.NAME`, found without importing it."""
    spec = importlib.util.find_spec(f"neuraxis.{name}")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def choices(group: str) -> dict[str, str]:
    """Each choice of the group with its one line, sorted by name."""
    found = _algorithms() if group == "agent" else {}
    for file in (package("configs") / group).glob("*.yaml"):
        first, _, _ = file.read_text(encoding="utf-8").partition("\n")
        found[file.stem] = first.removeprefix("#").strip() if first.startswith("#") else ""
    return dict(sorted(found.items()))


def read(group: str, name: str) -> dict[str, Any] | None:
    """The mapping in the YAML of a choice; None if there is no such file. Raises ValueError."""
    own = name.endswith(".yaml")
    file = Path(name) if own else package("configs") / group / f"{name}.yaml"
    if not own and name not in {yaml.stem for yaml in file.parent.glob("*.yaml")}:
        return None
    return read_file(file, f"{group}={name}")


def read_file(file: Path, word: str) -> dict[str, Any]:
    """The mapping in a YAML file; `word` opens the sentence of a ValueError."""
    place = str(file) if word == str(file) else f"{word}: {file}"
    try:
        data = parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"{place}: cannot read it: {reason}") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{place}: expected a mapping (key: value)")
    return data


def nearest(name: str, candidates: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean X?` for the candidate that looks most like the name, or an empty string.

    `likeness`, in (0, 1], is the least that counts (difflib's ratio).
    """
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), by_lower, 1, likeness)
    return f"; did you mean {by_lower[found[0]]}?" if found else ""


def _algorithms() -> dict[str, str]:
    """Modules in `agents/` with a class that nests a `Config(...Config)`: name and one line."""
    found = {}
    for file in package("agents").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(_is_agent(node) for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def _is_agent(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and any(
        isinstance(inner, ast.ClassDef)
        and inner.name == "Config"
        and any(ast.unparse(base).endswith("Config") for base in inner.bases)
        for inner in node.body
    )
