"""Which runs belong together: those whose settings agree in all that counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...configs.text import brief
from ...core.errors import nearest
from ...core.registry import PROGRAM

Settings = Mapping[str, Any]

# Repetition, places and bookkeeping: none makes another experiment. W&B has two more of these,
# `code` and what was `loaded`.
IGNORED = (
    *("seed", "run_dir", "wandb", "tensorboard", "prometheus", "code", "loaded", "checkpoint"),
    *("log_interval_steps", "profile", "eval.mode", "eval.video_interval_steps"),
    *("env.processes", "learner.placement", "agent.replay_device"),
)
# What an agent makes of its environment: returns are counted before it, so they stay comparable.
PREPROCESSING = tuple(
    f"env.{name}"
    for name in (
        "vectorization",
        "frame_stack",
        "flatten",
        "rescale_actions",
        "reward_scale",
        "reward_clip",
    )
)
BEFORE = {"ray.workers": 0, "learner.count": 1, "overlap": False}
"""Values for runs of versions that had no such setting."""
NAMES = ("env.id", "agent.name", "network")  # come first in labels, as their bare values


def below(key: str, prefixes: Sequence[str]) -> bool:
    """Whether the key is one of the prefixes or stands in a section of that name."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def differing(configs: Sequence[Settings]) -> list[str]:
    """Keys that count and have more than one value, those of `NAMES` first.

    A key that only some runs have is no difference: the other runs' agent has no such setting (then
    `agent.name` differs, too), or their version of neuraxis had none. Only for an argument of the
    environment's constructor (`env.kwargs`) it is one.
    """
    found = []
    for key in dict.fromkeys(key for config in configs for key in config):
        lacking = key in BEFORE or below(key, ["env.kwargs"])
        values = {_value(config, key) for config in configs if key in config or lacking}
        if not below(key, IGNORED) and len(values) > 1:
            found.append(key)
    return sorted(found, key=lambda key: NAMES.index(key) if key in NAMES else len(NAMES))


def _value(config: Settings, key: str) -> Any:
    """The value to compare; where seed 3 starts from `pre/s3`, that is `pre/s*`."""
    value = config.get(key, BEFORE.get(key))
    if key == "init.from" and isinstance(value, str):
        return re.sub(rf"\bs{config.get('seed')}\b", "s*", value)
    return value


def is_environment(key: str, by: Sequence[str] = ()) -> bool:
    """Whether the setting says which problem is solved, and is not what the runs compare.

    Returns of two `env.id` are never comparable, of two settings of one `env.id` they may be, if
    a person says so.
    """
    compared = below(key, by) and key != "env.id"
    return below(key, ("env",)) and not below(key, PREPROCESSING) and not compared


def by_a_program(config: Settings) -> bool:
    """Whether a program gave a class, a function or an object in place of an environment's id."""
    return str(config.get("env.id")).startswith(f"{PROGRAM}:")


def check(configs: Sequence[Settings], by: Sequence[str]) -> None:
    """Raises ValueError if no run has a setting of a name in `by`; names the nearest."""
    known = {key for config in configs for key in config}
    for key in by:
        if key not in known:
            raise ValueError(
                f"--by {key}: no run has this setting"
                + (nearest(key, known) or "; agent.name and agent.learning_rate are some")
            )


def labels(
    configs: Sequence[Settings],
    keys: Sequence[str],
    always: Sequence[str] = (),
    within: Sequence[str] | None = None,
) -> list[str]:
    """Returns a label for each run; in its place, runs share one if they agree in all the keys.

    Args:
        configs: the runs' settings, N of them.
        keys: what may tell runs apart; those that add nothing to the ones before are left out.
        always: keys that are not left out.
        within: the places [N]; none: all runs are in one.
    """
    places = within or [""] * len(configs)

    def count(keys: Sequence[str]) -> int:
        values = [tuple(_value(config, key) for key in keys) for config in configs]
        return len(set(zip(places, values, strict=True)))

    used = list(always)
    for key in keys:
        if count([*used, key]) > count(used):
            used.append(key)
    used = used or ["agent.name", "network"]
    full = [_label(config, used) for config in configs]
    short = [_label(config, used, hidden=(None, False)) for config in configs]
    return short if len(set(short)) == len(set(full)) and all(short) else full


def _label(config: Settings, keys: Sequence[str], hidden: Sequence[Any] = ()) -> str:
    words = []
    for key in keys:
        value = _value(config, key)
        if key in NAMES:
            words.append(str(value))
        elif not any(value is other for other in hidden):
            words.append(f"{key.rpartition('.')[2]}={show(value)}")
    return " ".join(words)


def show(value: Any) -> str:
    """A setting as one would type it."""
    return brief(list(value) if isinstance(value, tuple) else value)
