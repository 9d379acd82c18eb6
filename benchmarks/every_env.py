"""Every id that Gymnasium knows here trains for 64 steps with the defaults, or says why not.

    python benchmarks/every_env.py                    # all of them, about a quarter of an hour
    python benchmarks/every_env.py --only=MiniGrid    # ids with this word; writes no table

Ids are those of Gymnasium, MiniGrid and BabyAI, ALE in new and old names, and our own. `trained`:
the run came to 64 steps, and all numbers of its learning and its evaluation are finite.
`refused`: a ValueError of one line. `broken`: plain Gymnasium cannot reset it, either. Whatever
else happens is an error of neuraxis, and the exit code is 1. The table goes to
`benchmarks/results/every_env.md`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import re
import sys
import tempfile
import textwrap
import time
import traceback
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import gymnasium
from gymnasium.envs.registration import EnvSpec

from neuraxis import train
from neuraxis.core.errors import EnvError
from neuraxis.envs.ids import MODULES

RESULTS = Path(__file__).parent / "results" / "every_env.md"
WORDS = (
    *("total_steps=64", "num_envs=2", "agent.n_steps=32", "eval.max_episode_steps=64"),
    *("device=cpu", "wandb.mode=disabled"),
)
MEANING = (
    "`trained`: the run came to 64 steps, and all numbers of its learning and its evaluation are "
    "finite. `refused`: one line says why. `broken`: plain Gymnasium cannot reset it, "
    "either."
)
KINDS = ("trained", "refused", "broken", "error")
PACKAGES = ("gymnasium", "minigrid", "ale-py", "minatar", "mujoco")


class Outcome(NamedTuple):
    """What became of an id: `trained`, `refused`, `broken` or `error`, and the reason."""

    kind: str
    reason: str = ""


def suite(spec: EnvSpec) -> str:
    """Name of the suite that an id belongs to."""
    module = spec.entry_point if isinstance(spec.entry_point, str) else ""
    if spec.id.startswith(("MiniGrid-", "BabyAI-")):
        return spec.id.partition("-")[0]
    if module.startswith("ale_py"):
        return "ALE" if spec.namespace else "ALE, old names"
    if module.startswith("gymnasium.envs.mujoco"):
        return f"Gymnasium's mujoco, v{spec.version}"
    if module.startswith("gymnasium.envs."):
        return f"Gymnasium's {module.split('.')[2].partition(':')[0]}"
    return "neuraxis" if spec.namespace == "neuraxis" else "Gymnasium's, moved away"


def outcome(env_id: str) -> Outcome:
    """Trains 64 steps in this process; what it raises does not end the benchmark."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = train(*WORDS, f"env={env_id}", run_dir=f"{folder}/run")
            rows = map(json.loads, Path(folder, "run", "metrics.jsonl").read_text().splitlines())
            numbers = {name: value for row in rows for name, value in row.items()}
    except ValueError as error:
        return Outcome("refused" if "\n" not in str(error) else "error", general(error, env_id))
    except EnvError as error:
        return Outcome("broken" if breaks(env_id) else "error", general(error, env_id))
    except Exception as error:  # what must not happen is what is looked for
        traceback.print_exc()
        return Outcome("error", f"{type(error).__name__}: {general(error, env_id)}")
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    if wrong or run.steps < 64 or "loss/policy" not in numbers:
        return Outcome("error", f"{run.steps} steps, not finite: {', '.join(wrong) or 'none'}")
    return Outcome("trained")


def general(error: Exception, env_id: str) -> str:
    """The message without what belongs to one id only."""
    message = re.sub(r", column \d+, seed \d+", "", str(error).replace(env_id, "ID"))
    message = re.sub(r"/\S+/(\S+/)\w+\.png", r".../\1NAME.png", message)
    return re.sub(r"ALE/\w+", "ALE/GAME", message)


def breaks(env_id: str) -> bool:
    """Whether the environment cannot even be reset by Gymnasium alone."""
    try:
        gymnasium.make(env_id, disable_env_checker=True).reset()
    except Exception:  # it may raise anything
        return True
    return False


def table(outcomes: dict[str, Outcome], suites: dict[str, list[str]]) -> str:
    """The page."""
    made = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    lines = [
        "# Every id of Gymnasium",
        "",
        *textwrap.wrap(f"By `python benchmarks/every_env.py` with {made}. {MEANING}", 120),
        "",
        f"| suite | ids | {' | '.join(KINDS)} |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, ids in suites.items():
        counts = [sum(outcomes[env_id].kind == kind for env_id in ids) for kind in KINDS]
        lines.append(f"| {name} | {len(ids)} | {' | '.join(map(str, counts))} |")
    lines += ["", "## Not trained"]
    reasons: dict[Outcome, list[str]] = defaultdict(list)
    for env_id, found in outcomes.items():
        if found.kind != "trained":
            reasons[found].append(env_id)
    for found, ids in reasons.items():
        lines += ["", *textwrap.wrap(f"{found.kind}: `{found.reason}`", 120), "", *listed(ids)]
    lines += ["", "## Trained"]
    for name, ids in suites.items():
        trained = [env_id for env_id in ids if outcomes[env_id].kind == "trained"]
        if trained:
            lines += ["", f"{name}:", "", *listed(trained)]
    return "\n".join(lines) + "\n"


def listed(ids: list[str]) -> list[str]:
    """Lines of ids."""
    text = ", ".join(ids)
    return textwrap.wrap(text, 120, break_on_hyphens=False, break_long_words=False)


def main() -> int:
    """Tries the ids; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(description="Train every environment for 64 steps.")
    parser.add_argument("--only", default="", help="ids that contain this word")
    only = parser.parse_args().only
    for package in set(MODULES.values()):
        importlib.import_module(package)
    suites: dict[str, list[str]] = defaultdict(list)
    for env_id in sorted(gymnasium.registry):
        if only in env_id:
            suites[suite(gymnasium.registry[env_id])].append(env_id)
    suites = dict(sorted(suites.items()))
    outcomes: dict[str, Outcome] = {}
    for env_id in (one for ids in suites.values() for one in ids):
        begin = time.perf_counter()
        outcomes[env_id] = outcome(env_id)
        kind, reason = outcomes[env_id]
        print(f"{env_id}: {kind} {reason} ({time.perf_counter() - begin:.1f} s)", flush=True)
    if not only:
        RESULTS.write_text(table(outcomes, suites))
    return int(any(found.kind == "error" for found in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
