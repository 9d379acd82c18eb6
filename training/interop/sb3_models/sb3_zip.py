"""A model of Stable-Baselines3 or sb3-contrib in its zip, read without unpickling.

model = read(Path("model.zip"))      model.tensors["mlp_extractor.policy_net.0.weight"]

Of the settings in `data` the readable JSON is taken; the pickles beside it are not even decoded.
Tensors are read by PyTorch's loader of weights, which refuses everything else.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....core.errors import RunError, listed
from ...storage.atomic_files import disk, json_object

IMPORTED = "PPO", "A2C", "DQN", "SAC", "TD3", "DDPG", "RecurrentPPO", "QRDQN"
"""The algorithms whose models can be read."""
FILES = DATA, WEIGHTS, VARIABLES = "data", "policy.pth", "pytorch_variables.pth"
_PICKLED = ":serialized:", ":type:"
_CONSTANT = re.compile(r"ConstantSchedule\(val=([-+.\de]+)\)")
_CLASS = re.compile(r"<class '([\w.]+)'>")
_OPENINGS = {
    "quantile_net.": "QRDQN",
    "q_net.": "DQN",
    "lstm_actor.": "RecurrentPPO",
    "critic.qf0.": "SAC",
    "action_net.": "PPO",
}
"""By the beginning of a tensor's name, the algorithm or the family of algorithms."""
_LIKE_OTHERS = {"crossq": "CrossQ", "tqc": "TQC", "maskable": "MaskablePPO"}
"""By a word of the policy's module, algorithms whose tensors have the names of others'."""


@dataclass(frozen=True)
class Model:
    """What a zip says of a model."""

    place: Path
    """The file."""
    algorithm: str
    """One of `IMPORTED`."""
    settings: Mapping[str, Any]
    """Attributes of the model that are readable."""
    unread: tuple[str, ...]
    """Names of those that are pickled."""
    policy_settings: Mapping[str, Any]
    """Arguments of its policy, `policy_kwargs`, likewise; a class is its dotted name."""
    tensors: Mapping[str, Tensor]
    """The policy's, by name."""
    temperature: float | None
    """Logarithm of the weight of the entropy (SAC); None: it is not learned."""

    @property
    def steps(self) -> int:
        """Environment steps that it has learned from."""
        steps = self.settings.get("num_timesteps", 0)
        return max(steps, 0) if isinstance(steps, int) else 0


def read(place: Path) -> Model:
    """Reads a model.

    Raises:
        ValueError: It is no zip of Stable-Baselines3, of an algorithm that is not imported, or its
            weights are more than tensors; nothing of it was executed.
        RunError: The disk refuses.
    """
    if not place.is_file():
        raise ValueError(f"{place}: no such file; expected a .zip that Stable-Baselines3 wrote")
    with disk(place):
        try:
            with zipfile.ZipFile(place) as content:
                missing = [name for name in (DATA, WEIGHTS) if name not in content.namelist()]
                if missing:
                    raise ValueError(f"{place}: no model of Stable-Baselines3, has no {missing[0]}")
                found = {name: content.read(name) for name in content.namelist() if name in FILES}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{place}: no zip of Stable-Baselines3 ({error})") from error
    try:
        data = json_object(found[DATA].decode(errors="replace"), Path(place, DATA))
    except RunError as error:
        raise ValueError(str(error)) from error
    tensors = _tensors(found[WEIGHTS], f"{place}: {WEIGHTS}")
    policy_settings = data.get("policy_kwargs")
    policy_settings = _readable(policy_settings) if isinstance(policy_settings, dict) else {}
    settings, unread = _readable_settings(data)
    algorithm = _algorithm(data, policy_settings, tensors)
    if algorithm not in IMPORTED:
        raise ValueError(f"{place}: a model of {algorithm}; expected {', '.join(IMPORTED)}")
    if scalars := [name for name, tensor in tensors.items() if not tensor.ndim]:
        raise ValueError(f"{place}: {listed(scalars)}: a single number; expected weights")
    variables = _tensors(found[VARIABLES], f"{place}: {VARIABLES}") if VARIABLES in found else {}
    log = variables.get("log_ent_coef")
    return Model(
        *(place, algorithm, settings, unread, policy_settings, tensors),
        temperature=None if log is None else float(log.detach().flatten()[0]),
    )


def _tensors(content: bytes, place: str) -> dict[str, Tensor]:
    """The named tensors of a file of torch.save; ValueError for all else, which is not executed."""
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{place}: expected what torch.save writes")
    file.seek(0)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise ValueError(
            f"{place}: expected tensors alone; nothing else was read, and nothing executed"
        ) from error
    if found is None:  # there are no variables
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{place}: expected tensors by name, got a {type(found).__name__}")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    infinite = [name for name, value in tensors.items() if not value.isfinite().all()]
    if infinite:
        raise ValueError(f"{place}: {listed(infinite)}: not finite (NaN or infinite)")
    return tensors


def _readable(value: Mapping[str, Any]) -> dict[str, Any]:
    """The readable entries of a dict that was pickled; a class becomes its dotted name."""
    found = {key: entry for key, entry in value.items() if key not in _PICKLED}
    classes = {key: _CLASS.fullmatch(e) for key, e in found.items() if isinstance(e, str)}
    return found | {key: match[1] for key, match in classes.items() if match}


def _readable_settings(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings that are not pickled, and the names of the others.

    Of a pickled schedule the number is readable, if it is constant.
    """
    settings, unread = dict[str, Any](), list[str]()
    for key, value in data.items():
        if not isinstance(value, dict) or _PICKLED[0] not in value:
            settings[key] = value
        elif constant := _CONSTANT.search(str(value.get("value_schedule"))):
            settings[key] = float(constant[1])
        else:
            unread.append(key)
    return settings, tuple(unread)


def _algorithm(
    data: Mapping[str, Any], policy_settings: Mapping[str, Any], names: Iterable[str]
) -> str:
    """The algorithm, by the names of the tensors and, where these are alike, by the settings."""
    opening = next((o for o in _OPENINGS if any(name.startswith(o) for name in names)), "")
    family = _OPENINGS.get(opening, "an unknown algorithm")
    policy = data.get("policy_class")
    module = str(policy.get("__module__")) if isinstance(policy, dict) else ""
    for word, name in _LIKE_OTHERS.items():
        if word in module:
            return name
    if family == "PPO":
        return "TRPO" if "cg_max_steps" in data else "PPO" if "n_epochs" in data else "A2C"
    if family == "SAC" and not any(name.startswith("actor.log_std") for name in names):
        return "DDPG" if policy_settings.get("n_critics") == 1 else "TD3"
    return family
