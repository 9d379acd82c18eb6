"""The arguments of an algorithm's constructor: from `agent.kwargs` to what the library takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch.nn.modules import activation

from ...core.errors import listed, nearest, shorten

OURS = {
    **{"policy": "agent.policy", "env": "env", "seed": "seed", "device": "device"},
    **{"verbose": "-q", "action_noise": "agent.action_noise"},
    "tensorboard_log": "tensorboard.enabled",
}
"""Arguments that are not in `agent.kwargs`, and what sets them."""
SCHEDULES = "learning_rate", "clip_range", "clip_range_vf"
"""Arguments that may be `lin_0.001`, which falls to 0 over the run."""
CLASSES = "rollout_buffer_class", "replay_buffer_class"
"""Arguments that are classes, which no text stands for."""
Parameters = Mapping[str, inspect.Parameter]


def arguments(agent: str, algorithm: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with which the algorithm is built.

    Args:
        agent: Its name, for errors.
        algorithm: Its class.
        given: `agent.kwargs`.

    Raises:
        ValueError: It has no such argument, or the value has another type; names the key.
    """
    found = inspect.signature(algorithm).parameters
    known = {name: found[name] for name in found if name[0] != "_"}
    return {name: _argument(agent, name, value, known) for name, value in given.items()}


def _argument(agent: str, name: str, value: Any, known: Parameters) -> Any:
    place = f"agent.kwargs.{name}"
    if name in OURS:
        raise ValueError(f"{place}: is set by {OURS[name]}; expected {OURS[name]}=")
    if name not in known or name in CLASSES:
        rest = [other for other in known if other not in OURS and other not in CLASSES]
        raise ValueError(
            f"{place}: {agent} has no such argument{nearest(name, rest)} (arguments: "
            f"{listed(rest, 600)})"
        )
    if name in SCHEDULES and isinstance(value, str):
        return _schedule(place, value)
    if name == "policy_kwargs":
        return _of_policy(place, value)
    if name == "train_freq" and isinstance(value, list):
        return tuple(value)
    if (expected := _other_type(known[name].default, value)) is not None:
        raise ValueError(f"{place}={shorten(value)}: expected {expected}")
    return value


def _other_type(usual: Any, value: Any) -> str | None:
    """What is expected in place of a value, by the argument's default; None if it fits."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(usual, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(usual, int):
        return None if number and value == int(value) else "a whole number"
    return None if number or not isinstance(usual, float) else "a number"


def _schedule(place: str, value: str) -> Any:
    try:
        start = float(value.removeprefix("lin_"))
    except ValueError:
        start = None
    if start is None or not value.startswith("lin_"):
        raise ValueError(f"{place}={value}: expected a number, or lin_0.001 for instance")
    return lambda left: left * start


def _of_policy(place: str, value: Any) -> dict[str, Any]:
    """The arguments of the policy, with the class of the activation in place of its name."""
    if not isinstance(value, dict):
        raise ValueError(f"{place}={shorten(value)}: expected a mapping {{KEY: VALUE}}")
    if "activation_fn" not in value:
        return value
    chosen = value["activation_fn"]
    if chosen not in activation.__all__:
        hint = nearest(chosen, activation.__all__) if isinstance(chosen, str) else ""
        raise ValueError(
            f"{place}.activation_fn={shorten(chosen)}: expected an activation of torch.nn, ReLU "
            f"for instance{hint}"
        )
    return value | {"activation_fn": getattr(activation, chosen)}
