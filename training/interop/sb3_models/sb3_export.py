"""A run of ours as a file that Stable-Baselines3 or sb3-contrib loads.

write_model(Path("runs/first"), "best", Path("ppo.zip"))      PPO.load("ppo.zip")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from .... import configs
from ....agents.agent import Agent
from ....agents.loading import loadable, return_scales, take_over
from ....agents.policies.actor_critic import ActorCritic
from ....configs.config import Config
from ....core.errors import Guard, listed
from ....core.files import expanded
from ...distributed.build import build_agent
from ...saved_policy import load
from ...storage import layout, weights
from ...storage.atomic_files import disk, temporary_of
from ..sb3_agent import algorithm_class, plain
from ..sb3_envs import Described
from .sb3_constructor import SOURCES, algorithm_of, arguments, policy_arguments, policy_of
from .sb3_networks import pairs
from .sb3_towers import ACTOR_CRITICS
from .sb3_weights import OWN, TARGETS, active, keys_of

STATISTICS = ".vecnormalize.pkl"
"""The ending of the file of statistics, in place of .zip."""


class Written(NamedTuple):
    """What was written."""

    algorithm: str
    """The class that loads it."""
    file: Path
    statistics: Path | None
    """Of a VecNormalize; None: nothing is normalised."""
    parameters: int


def write_model(run: str | Path, which: str, file: str | Path, trust: bool = False) -> Written:
    """Writes the policy of a run as a model of the library, and its statistics beside it.

    Args:
        run: The run's folder.
        which: Checkpoint `best`, `last` or `step_...`.
        file: Ends in .zip; an existing one is replaced.
        trust: See `saved_policy.load`.

    Raises:
        ValueError: No such run, or the library has no form for its policy; says for what of it.
        RunError: The run is damaged, or the disk refuses.
    """
    run, file = expanded(run), expanded(file)
    if file.suffix != ".zip":
        raise ValueError(f"{file}: expected a file that ends in .zip")
    agent, cfg = _agent(run, which, trust)
    try:
        algorithm, model = model_of(agent)
    except ValueError as error:
        raise ValueError(f"{run}: no form in Stable-Baselines3: {error}") from error
    model.num_timesteps = model._total_timesteps = agent.steps
    if hasattr(model, "buffer_size"):
        model.buffer_size = cfg.agent.model_dump()["buffer_size"]
    statistics, place = _statistics(agent, model), file.with_suffix(STATISTICS)
    with disk(place):
        place.unlink(missing_ok=True)  # those of another model
    if statistics is not None:
        _write(place, statistics.save)
    _write(file, model.save)
    count = sum(tensor.numel() for tensor in model.policy.parameters())
    return Written(algorithm, file, None if statistics is None else place, count)


def _write(file: Path, save: Callable[[str], Any]) -> None:
    temporary = temporary_of(file).with_suffix(file.suffix)  # else the library adds one
    with disk(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            save(str(temporary))
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _agent(run: Path, which: str, trust: bool) -> tuple[Agent, Config]:
    """The agent of a run with the weights of a checkpoint, and the run's configuration."""
    folder = layout.find(run)
    policy = load(folder, which, trust)
    found = weights.read(folder, which)
    cfg = configs.load(["device=cpu", "ray={}"], folder / layout.CONFIG, trust)
    given = policy.observation_space, policy.action_space
    with torch.random.fork_rng(devices=[]):  # building seeds it
        agent = build_agent(cfg, spaces=given)
    agent.policy.interface = policy.interface
    if policy.interface is None:
        raise ValueError(f"{run}: of an older version, which kept no spaces; train it on")
    here = loadable(agent)
    take_over(agent, {name: x for name, x in found.tensors.items() if name in here})
    for name, scale in return_scales(agent).items():
        scale.moments = found.reward_scales.get(name, scale.moments)
    agent.steps = found.about["steps"]
    return agent, cfg


def model_of(agent: Agent) -> tuple[str, Any]:
    """The library's algorithm and a model of it that acts as the agent.

    Raises:
        ValueError: The library has no form for the agent's policy; says for what of it.
    """
    algorithm = algorithm_of(agent)
    model = _model(agent, algorithm)
    _fill(model, agent, algorithm)
    return algorithm, model


def _model(agent: Agent, algorithm: str) -> Any:
    """The library's model, with fresh weights."""
    cls = algorithm_class(SOURCES[algorithm])
    envs = Described(agent.setup.num_envs, plain(agent.setup.observation_space), _actions(agent))
    named = arguments(agent, cls) | ({"buffer_size": 1} if algorithm not in ACTOR_CRITICS else {})
    with Guard(lambda: algorithm, ValueError), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # about batch sizes
        policy = policy_of(agent, algorithm)
        kwargs = policy_arguments(agent)
        return cls(policy, envs, policy_kwargs=kwargs, device="cpu", **named)


def _actions(agent: Agent) -> gymnasium.Space:
    """The space of the environment's actions; discrete ones count from 0."""
    own = agent.setup.action_space
    interface = agent.policy.interface
    assert interface is not None
    return plain(interface.spaces[1]) if isinstance(own, spaces.Box) else own


@torch.no_grad()
def _fill(model: Any, agent: Agent, algorithm: str) -> None:
    """Writes the agent's weights into the model. Raises ValueError for what has no place there."""
    ours, state = loadable(agent), model.policy.state_dict()
    values: dict[str, Tensor] = {}
    found = [*pairs(agent, algorithm, keys_of(agent))]
    used = {pair.ours for pair in found}
    if rest := sorted(name for name in ours if name not in used and not name.startswith(OWN)):
        raise ValueError(f"network: nothing there for {listed(rest, 120)}")
    for pair in found:
        value = pair.give(ours[pair.ours]) if pair.ours in ours else None
        if value is None or pair.theirs not in state or state[pair.theirs].shape != value.shape:
            raise ValueError(f"network: {pair.ours} has another shape or another layer there")
        if not values.setdefault(pair.theirs, value).equal(value):
            raise ValueError(f"network: {pair.theirs} is one network there, and several here")
    if isinstance(agent.policy, ActorCritic):
        _scale_actions(values, agent)
    for name in state:
        online = name.replace(TARGETS, ".", 1)
        if algorithm in ACTOR_CRITICS and name.startswith("features_extractor."):
            online = f"pi_{name}"
        if online not in values:
            raise ValueError(f"network: nothing here for {name}")
        state[name] = values[online]
    model.policy.load_state_dict(state)
    if "temperature.log" in ours and getattr(model, "log_ent_coef", None) is not None:
        model.log_ent_coef.fill_(float(ours["temperature.log"]))


def _scale_actions(values: dict[str, Tensor], agent: Agent) -> None:
    """Makes a Gaussian on [-1, 1] one on the bounds of the environment's actions.

    Both clip a number to the bounds, so that scaling the outputs gives the same actions.
    """
    own, theirs = agent.setup.action_space, _actions(agent)
    if not isinstance(own, spaces.Box) or not isinstance(theirs, spaces.Box) or own == theirs:
        return
    low, high = (torch.as_tensor(bound).double().flatten() for bound in (theirs.low, theirs.high))
    middle, half = (low + high) / 2, (high - low) / 2
    weight, bias, log_std = (values[n] for n in ("action_net.weight", "action_net.bias", "log_std"))
    values["action_net.weight"] = (weight.double() * half[:, None]).float()
    values["action_net.bias"] = (bias.double() * half + middle).float()
    values["log_std"] = (log_std.double() + half.log()).float()  # [A], or [D, A] of gSDE


def _statistics(agent: Agent, model: Any) -> VecNormalize | None:
    """What normalises as the agent does; None if nothing is normalised."""
    normalizer, scales = agent.policy.normalizer, return_scales(agent)
    if normalizer is None and not scales:
        return None
    parts = {} if normalizer is None else dict(active("", normalizer))
    space = plain(agent.setup.observation_space)
    keys = list(parts) if isinstance(space, spaces.Dict) else None
    envs = Described(agent.setup.num_envs, space, _actions(agent))
    found = VecNormalize(
        *(envs, True, bool(parts), bool(scales)), gamma=model.gamma, norm_obs_keys=keys
    )
    moments = {key: _moments(p.mean, p.variance, float(p.count)) for key, p in parts.items()}
    if moments:
        found.obs_rms = moments if keys is not None else moments[""]
    for scale in scales.values():
        count, mean, variance = scale.moments
        found.ret_rms = _moments(mean, variance, count)
    return found


def _moments(mean: Tensor, variance: Tensor, count: float) -> RunningMeanStd:
    found = RunningMeanStd(shape=tuple(mean.shape))
    found.mean, found.var = mean.double().numpy(), variance.double().numpy()
    found.count = count
    return found
