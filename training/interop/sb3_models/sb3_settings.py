"""A model of Stable-Baselines3 as a configuration of ours: agent, network and what learning needs.

settings = configuration(model, {"env"})      configs.load(["env=CartPole-v1"], **settings)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from ....agents.choices import agent_class
from ....core.errors import nearest
from .sb3_statistics import Statistics
from .sb3_towers import ACTIVATIONS, ACTOR_CRITICS, actor, critic
from .sb3_zip import Model

AGENTS = {
    "PPO": ("ppo", "ppo"),
    "A2C": ("a2c", "ppo"),
    "RecurrentPPO": ("ppo", "ppo"),
    "DQN": ("dqn", "dqn"),
    "QRDQN": ("qr_dqn", "dqn"),
    "SAC": ("sac", "sac"),
    "TD3": ("td3", "td3"),
    "DDPG": ("ddpg", "td3"),
}
"""By the algorithm, our choice of an agent, and the agent's file."""
FIXED = "agent", "agent.name", "network", "experiment"
"""Words that the file says, and nobody else; so are those that begin with `network.` or `init.`."""
HOMONYMS = "name", "ent_coef", "exploration_schedule", "n_steps"
"""Attributes of a model whose names mean something else here, or whose values do."""
UNSUPPORTED = {
    "use_expln": (False, "another deviation of gSDE"),
    "full_std": (True, "one deviation of gSDE for all features"),
    "squash_output": (False, "gSDE with squashed actions"),
}
"""Arguments of a policy that change what it computes: their usual values, and what others are."""


def configuration(
    model: Model, said: Collection[str], statistics: Statistics | None = None
) -> dict[str, Any]:
    """The settings of a model, as `configs.load` takes them besides a person's words.

    Args:
        model: The model.
        said: Keys of the person's words: `env`, and others that win over the file.
        statistics: Of a VecNormalize; None: nothing was normalised.

    Raises:
        ValueError: No environment is named, a word contradicts the file, or the network has no
            form here.
    """
    for key in said:
        if key in FIXED or key.startswith(("network.", "init.")):
            raise ValueError(f"{key}: {model.place} says what it is; expected no {key}=")
    if "env" not in said and "env.id" not in said:
        raise ValueError(
            "env: expected env=ID, the environment in which the model acts; its file does not say"
        )
    settings = _agent(model) | _network(model)
    settings["num_envs"] = model.settings.get("n_envs") or 1
    settings["total_steps"] = max(model.steps, 1)
    if statistics is not None and statistics.observations:
        settings["agent.normalize_observations"] = True
    if (
        statistics is not None
        and statistics.returns is not None
        and model.algorithm in ACTOR_CRITICS
    ):
        settings["agent.normalize_rewards"] = True
    return {key: value for key, value in settings.items() if key not in said}


def _agent(model: Model) -> dict[str, Any]:
    """The agent, and its settings that have the library's names or are its defaults."""
    choice, file = AGENTS[model.algorithm]
    read, fresh = model.settings, model.algorithm in ACTOR_CRITICS
    fields = agent_class(file).Config.model_fields
    found = {key: read[key] for key in fields if key in read and key not in HOMONYMS}
    found |= _entropy(read.get("ent_coef"))
    if fresh:
        found["n_steps"] = read.get("n_steps")
        found["gaussian.use_sde"] = bool(read.get("use_sde"))
        found["gaussian.sde_sample_freq"] = read.get("sde_sample_freq", -1) or -1
    else:
        found["n_step"] = read.get("n_steps", 1)
        found["train_freq"] = 4 if file == "dqn" else 1
        starts = found.get("learning_starts", 0)
        if not isinstance(starts, int):
            raise ValueError(f"{model.place}: learning_starts={starts}: expected an integer")
        found["learning_starts"] = min(starts, max(model.steps, 1) - 1)
        found["gradient_steps"] = found.get("gradient_steps") or -1
    if file == "dqn":
        found["double"] = False
    if file in ("sac", "td3"):
        found["n_critics"] = sum(name.endswith(".0.weight") for name in _critics(model))
    found = {key: value for key, value in found.items() if value is not None or key in _OPTIONAL}
    rescaled = {"env.rescale_actions": not fresh}
    return {"agent": choice, **{f"agent.{key}": found[key] for key in found}, **rescaled}


def unread_settings(model: Model) -> list[str]:
    """The settings of ours that the file has only as pickles."""
    fields = agent_class(AGENTS[model.algorithm][1]).Config.model_fields
    return [key for key in model.unread if key in fields and key not in HOMONYMS]


_OPTIONAL = "max_grad_norm", "clip_range_vf", "target_kl"
"""Settings that may be null."""


def _critics(model: Model) -> list[str]:
    return [name for name in model.tensors if name.startswith("critic.qf")]


def _entropy(said: Any) -> dict[str, Any]:
    """The weight of the entropy: a number, `auto` or `auto_0.1`."""
    if not isinstance(said, str):
        return {} if said is None else {"ent_coef": said}
    start = re.fullmatch(r"auto_(\d+(\.\d+)?)", said)
    return {"ent_coef": "auto"} | ({"ent_coef_init": float(start[1])} if start else {})


def _network(model: Model) -> dict[str, Any]:
    """The blocks of the network, by the shapes of its tensors."""
    _check(model)
    activation = _activation(model)
    towers = [actor(model.algorithm)]
    if model.algorithm not in ("DQN", "QRDQN"):
        towers.append(critic(model.algorithm, shared_lstm=shares_lstm(model)))
    blocks = [tower.blocks(model.tensors, activation) for tower in towers]
    shared = blocks[0] if model.algorithm in ("PPO", "A2C") and _shares(model) else None
    found: dict[str, Any] = {"network.blocks": blocks[0], "network.shared": shared == blocks[-1]}
    if not found["network.shared"] and len(blocks) > 1:
        found["network.critic"] = blocks[1]
    return found


def shares_lstm(model: Model) -> bool:
    """Whether the values of RecurrentPPO read the actor's LSTM."""
    return bool(model.policy_settings.get("shared_lstm"))


def _shares(model: Model) -> bool:
    """Whether actor and critic are one network up to their outputs: convolutions alone."""
    names = [name for name in model.tensors if name.startswith("mlp_extractor.")]
    own = {"pi_features_extractor.", "vf_features_extractor."}
    pi, vf = (
        {n.removeprefix(o): x for n, x in model.tensors.items() if n.startswith(o)}
        for o in sorted(own)
    )
    return not names and bool(pi) and all(x.equal(vf[n]) for n, x in pi.items() if n in vf)


def _activation(model: Model) -> str:
    """Our name of the function after each layer. Raises ValueError: we have none like it."""
    usual = nn.Tanh if model.algorithm in ACTOR_CRITICS else nn.ReLU
    said = str(model.policy_settings.get("activation_fn", usual.__name__)).rpartition(".")[2]
    if said not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        hint = nearest(said, ACTIVATIONS)
        raise ValueError(f"{model.place}: activation_fn={said}: expected {known}{hint}")
    return ACTIVATIONS[said]


def _check(model: Model) -> None:
    """Raises ValueError for settings of its policy that change what it computes."""
    given: Mapping[str, Any] = model.policy_settings
    for key, (usual, what) in UNSUPPORTED.items():
        if given.get(key, usual) != usual:
            raise ValueError(f"{model.place}: policy_kwargs.{key}={given[key]}: no form for {what}")
    lstm = "lstm_actor" if shares_lstm(model) else "lstm_critic"
    if model.algorithm == "RecurrentPPO" and f"{lstm}.weight_hh_l0" not in model.tensors:
        raise ValueError(
            f"{model.place}: enable_critic_lstm=false: no form for values without LSTM"
        )
    if model.settings.get("use_sde") and model.algorithm not in ACTOR_CRITICS:
        raise ValueError(f"{model.place}: use_sde=true: no form for gSDE in {model.algorithm}")
