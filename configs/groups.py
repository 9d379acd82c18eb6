"""The choices behind `agent=`, `env=`, `network=`, `experiment=`, read without importing PyTorch.

A choice is a YAML file in the folder of its group, whose first line is a comment that says what it
is. Agents are also found by their file in `agents/`. One's own file is a choice, too: a path that
ends in `.yaml`.
"""

from pathlib import Path
from typing import Any

from ..core.files import expanded, read_small
from ..core.registry import summaries
from .text import parse

_HERE = Path(__file__).parent
GROUPS = ("agent", "env", "network", "experiment")


def choices(group: str) -> dict[str, str]:
    """Each choice of the group with its one line, sorted by name."""
    found = dict(summaries("neuraxis.agents")) if group == "agent" else {}
    for file in (_HERE / group).glob("*.yaml"):
        first, _, _ = file.read_text(encoding="utf-8").partition("\n")
        found[file.stem] = first.removeprefix("#").strip() if first.startswith("#") else ""
    return dict(sorted(found.items()))


def baselines() -> dict[str, str]:
    """The algorithms of other libraries, each with its one line: `agent=LIBRARY/ALGORITHM`."""
    folders = sorted(path for path in (_HERE / "agent").iterdir() if path.is_dir())
    return {
        f"{folder.name}/{name}": line
        for folder in folders
        for name, line in choices(f"agent/{folder.name}").items()
    }


def read(group: str, name: str) -> dict[str, Any] | None:
    """The mapping in the YAML of a choice; None if there is no such file. Raises ValueError."""
    own, folder = name.endswith(".yaml"), _HERE / group
    file = Path(name) if own else folder / f"{name}.yaml"
    if not own and file not in folder.rglob("*.yaml"):
        return None
    return read_file(file, f"{group}={name}")


def read_file(file: Path, word: str) -> dict[str, Any]:
    """The mapping in a YAML file; `word` begins the message of a ValueError."""
    place = str(file) if word == str(file) else f"{word}: {file}"
    try:
        text = read_small(expanded(file))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{place}: cannot read it: {reason}") from error
    try:
        data = parse(text)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{place}: expected a mapping (key: value)")
    return data
