"""A resumed run: what is not as it was, kept in its meta.json and said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic_files import read_json, strange, write_json
from .layout import META
from .provenance import describe


def note(folder: Path, steps: int, num_envs: int, columns: Counter[str]) -> list[str]:
    """Adds to a run's meta.json where, when and by which command it was resumed.

    Args:
        folder: The run's.
        steps: Where it goes on.
        num_envs: How many environments it has.
        columns: Those that are not as they were, see `Source.load_state_dict`.

    Returns:
        What has changed since the run began or was last resumed, in sentences.

    Raises:
        RunError: It cannot be read or written.
    """
    now = describe()
    about = read_json(folder / META) or now
    with strange(f"{folder / META}: damaged"):
        earlier = list(about.get("resumed", []))
        before = next((one for one in reversed(earlier) if "versions" in one), about)
        differences = changes(before, now)
    counts = {name: columns[name] for name in ("reopened", "others", "regrouped")}
    entry = {**now, "steps": steps, **counts}
    write_json(folder / META, about | {"resumed": [*earlier, entry]})
    said = []
    if differences:
        said.append(f"not as before: {', '.join(differences)}; last digits may differ")
    if columns["regrouped"] > columns["reopened"]:
        said.append("the environments are in other groups than before; last digits may differ")
    if columns["reopened"]:
        count = f"{columns['reopened']} of {num_envs} environments"
        said.append(f"{count} could not go back to where they stood, and open new episodes")
    if columns["others"]:
        count = f"{columns['others']} of them"
        said.append(
            f"{count} begin an episode with another observation than before: the environment is "
            "another now, or has randomness besides its seed"
        )
    return said


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two contents of meta.json, as `torch 2.13.0 (it was 2.12.0)`."""
    old, new = _facts(before), _facts(now)
    return [
        f"{name} {new[name]} (it was {old[name]})"
        for name in new
        if name in old and new[name] != old[name]
    ]


def _facts(about: Mapping[str, Any]) -> dict[str, str]:
    """Versions, commit and machine by their names, as far as they are known."""
    facts = {name: str(version) for name, version in (about.get("versions") or {}).items()}
    if git := about.get("git"):
        facts["commit"] = git["commit"][:7] + (" with changed files" if git["dirty"] else "")
    host = about.get("host") or {}
    for key, name in (("name", "host"), ("system", "system"), ("cpus", "processors")):
        if key in host:
            facts[name] = str(host[key])
    if "gpus" in host:
        facts["GPUs"] = ", ".join(host["gpus"]) or "none"
    return facts
