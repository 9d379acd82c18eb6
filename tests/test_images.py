"""Observations with more than one axis: what is read as an image, and with which of its axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from neuraxis.agents.policies.normalize import Normalizer
from neuraxis.configs import load
from neuraxis.core.images import image_space
from neuraxis.core.tree import map_tree
from neuraxis.envs import EnvConfig, make
from neuraxis.envs.builtin.counting import Episode, Step
from neuraxis.networks.cnn import CNN
from neuraxis.networks.observation import Encoder
from neuraxis.training import train
from neuraxis.training.checks.preflight import image_notes

from .helpers import Training, training

Show = Callable[[int, np.random.Generator], Any]


class Bandit(Episode):
    """Every step one of `choices` is shown; reward 1 for the action that names it, 10 steps."""

    def __init__(self, space: spaces.Space[Any], choices: int, show: Show) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(choices)
        self._choices, self._show = choices, show

    def step(self, action: int) -> Step:
        self._count += 1
        reward = float(action == self._shown)
        return self._open(), reward, False, self._count >= 10, {}

    def _open(self) -> Any:
        self._shown = int(self.np_random.integers(self._choices))
        return self._show(self._shown, self.np_random)


def register(name: str, creator: Any) -> str:
    """Registers an environment, in place of an earlier one of that name; returns its id."""
    env_id = f"test/{name}-v0"
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(env_id, creator)
    return env_id


def bandit(name: str, space: spaces.Space[Any], choices: int, show: Show, *words: str) -> Training:
    """DQN on a bandit: the value of an action is its reward, learned from mostly random actions."""
    env_id = register(name, lambda: Bandit(space, choices, show))
    random = ("agent=dqn", "agent.gamma=0", "agent.exploration_fraction=1", "total_steps=2000")
    updates = ("agent.learning_starts=256", "agent.train_freq=64", "agent.gradient_steps=16")
    return training(f"env={env_id}", *random, *updates, *words)


def score_of(run: Training) -> float:
    """The greedy policy's share of right choices after all steps."""
    for _ in run.run():
        pass
    return run.score() / 10


def plane(shape: tuple[int, ...]) -> Show:
    """One of two planes in the middle of the channels, the longest axis, is 1, the others 0."""
    axis = shape.index(max(shape))

    def show(choice: int, random: np.random.Generator) -> np.ndarray:
        board = np.zeros(shape, np.float32)
        np.moveaxis(board, axis, 0)[8 + choice] = 1
        return board

    return show


def convolution(policy: nn.Module) -> nn.Conv2d:
    """The first layer of a policy that reads images."""
    return next(module for module in policy.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("shape", [(6, 9, 20), (20, 6, 9)])
def test_the_planes_of_a_board_are_its_channels(shape: tuple[int, ...]) -> None:
    """The mean over all pixels tells planes apart only if they are channels."""
    space, show = spaces.Box(0, 1, shape, np.float32), plane(shape)
    words = ("network=cnn_small", "network.blocks.0.pooling=global")
    run = bandit("Planes", space, 2, show, *words)
    assert convolution(run.agent.policy).in_channels == 20
    assert score_of(run) > 0.95


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((5, 4, 26), 26),
        ((26, 5, 4), 26),
        ((20, 10, 10), 20),
        ((3, 3, 12), 12),
        ((4, 84, 84), 4),
        ((210, 160, 3), 3),
        ((210, 160, 12), 12),
        ((3, 8, 100), 3),
        ((7, 6, 2), 2),
        ((1, 5, 9), 1),
    ],
)
def test_channels_are_guessed(shape: tuple[int, ...], channels: int) -> None:
    image = image_space(spaces.Box(0, 1, shape, np.float32))
    assert image is not None and image.channel_axis is not None
    assert shape[image.channel_axis] == channels


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize(("layout", "channels", "joined"), [("hwc", 7, (5, 6)), ("chw", 5, (6, 7))])
def test_the_layout_is_a_setting(layout: str, channels: int, joined: Any, stack: int) -> None:
    """For evaluation, for each part of a Dict and for stacked frames, too."""
    part = spaces.Box(-1, 1, (5, 6, 7), np.float32)
    space = spaces.Dict({"board": part, "turn": spaces.Discrete(2)})
    words = (f"env.image_layout={layout}", f"env.frame_stack={stack}", "network=cnn_small")
    run = bandit("Layout", space, 2, lambda *_: space.sample(), *words)
    assert convolution(run.agent.policy).in_channels == stack * channels
    shape = run.rollout().obs["board"].shape[2:]
    assert shape == ((*joined, stack * 7) if layout == "hwc" else (stack * 5, *joined))


def test_what_was_decided_for_images_is_said() -> None:
    board = spaces.Box(0, 1, (6, 9, 20), np.float32)
    space = spaces.Dict({"board": board, "view": spaces.Box(0, 255, (8, 8), np.uint8)})
    layout = (
        "observation['board'] (6, 9, 20) is read as 6x9 pixels with 20 channels; "
        "if that is wrong, use env.image_layout=chw"
    )
    flat = "this network sees pictures as long vectors (observation['board'], observation['view'])"
    raw = "agent.normalize_observations=true leaves pictures as they are"
    for words, expected in (
        (["network=cnn"], [layout]),
        (["network=cnn", "env.image_layout=hwc"], []),
        (["network=mlp"], [flat]),
        (["network=cnn", "agent.normalize_observations=true"], [layout, raw]),
    ):
        notes = list(image_notes(space, load(words)))
        assert len(notes) == len(expected)
        assert all(note.startswith(line) for note, line in zip(notes, expected, strict=True))
    assert not list(image_notes(spaces.Box(-9, 9, (30, 12), np.float32), load(["network=mlp"])))


def test_a_script_is_told_of_images_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    env = register("Said", lambda: Bandit(space, 2, lambda *_: space.sample()))
    words = ("wandb.mode=disabled", "num_envs=2", "total_steps=16", "agent.n_steps=8")
    train(*words, f"env={env}", "network=mlp", "eval.final_episodes=1", run_dir=tmp_path / "run")
    assert [text for text in caplog.messages if text.startswith("this network sees pictures")]


def test_a_layout_without_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"env.image_layout=hwc: no observation of CartPole-v1"):
        make(EnvConfig(image_layout="hwc"), 1, seed=0)


@pytest.mark.parametrize(
    ("shape", "joined", "axis"),
    [
        ((20, 10, 10), (80, 10, 10), 0),
        ((10, 10, 20), (10, 10, 80), 2),
        ((3, 8, 100), (12, 8, 100), 0),
        ((9, 12), (4, 9, 12), 0),
        ((10, 2), (80,), 0),
    ],
)
def test_stacked_frames_are_joined_along_the_channels(
    shape: tuple[int, ...], joined: tuple[int, ...], axis: int
) -> None:
    space = spaces.Box(0, 1000, shape, np.float32)
    register("Stack", lambda: Bandit(space, 2, lambda _, random: random.random(shape, np.float32)))
    plain, stacked = (make(EnvConfig(id="test/Stack-v0", frame_stack=n), 2, 0) for n in (1, 4))
    seen = [plain.reset()] * 4 + [plain.step(np.zeros(2, int))[0] for _ in range(3)]
    stacked.reset()
    obs = [stacked.step(np.zeros(2, int))[0] for _ in range(3)][-1]
    assert stacked.observation_space.shape == joined
    expected = np.concatenate(seen[-4:], axis + 1) if len(shape) == 3 else np.stack(seen[-4:], 1)
    np.testing.assert_array_equal(obs, expected.reshape(2, *joined))
    image = image_space(stacked.observation_space)
    assert len(joined) == 1 or (image is not None and image.channel_axis == axis - 3)


def test_mission_numbers_are_kept() -> None:
    space = spaces.Dict(
        {"image": spaces.Box(0, 255, (8, 8, 3), np.uint8), "mission": spaces.Discrete(4)}
    )

    def show(choice: int, random: np.random.Generator) -> Any:
        return {"image": np.zeros((8, 8, 3), np.uint8), "mission": choice}

    assert score_of(bandit("Mission", space, 4, show)) > 0.95


@pytest.mark.parametrize(
    ("wrappers", "high"),
    [
        ([], 10),
        (["FullyObsWrapper"], 10),
        (["ViewSizeWrapper"], 10),
        (["ImgObsWrapper"], 10),
        (["OneHotPartialObsWrapper"], 1),
        (["RGBImgPartialObsWrapper"], 255),
        (["RGBImgObsWrapper", "ImgObsWrapper"], 255),
    ],
)
def test_an_image_of_symbols_has_its_bound_and_pixels_theirs(
    wrappers: list[str], high: int
) -> None:
    minigrid = pytest.importorskip("minigrid.wrappers")

    def wrapped() -> gymnasium.Env[Any, Any]:
        env = gymnasium.make("MiniGrid-Empty-5x5-v0")
        for name in wrappers:
            env = getattr(minigrid, name)(env)
        return env

    register("Wrapped", wrapped)
    envs = make(EnvConfig(id="test/Wrapped-v0"), 1, 0)
    space, obs = envs.observation_space, envs.reset()
    encoder = Encoder(space)
    seen = encoder(map_tree(lambda x: torch.from_numpy(x)[None], obs), torch.zeros(1, 1))
    assert 0.3 < float(seen.max()) <= 1
    assert "mission" not in obs
    image = space["image"] if isinstance(space, spaces.Dict) else space
    assert isinstance(image, spaces.Box) and image.high.max() == high


def test_numbers_of_a_mission_stay() -> None:
    minigrid = pytest.importorskip("minigrid.wrappers")
    wrap = minigrid.DictObservationSpaceWrapper
    register("Words", lambda: wrap(gymnasium.make("MiniGrid-Empty-5x5-v0")))
    obs: Any = make(EnvConfig(id="test/Words-v0"), 1, 0).reset()
    assert obs["mission"].shape == (1, 50) and obs["mission"].any()


def test_float_boxes_of_any_rank_are_normalised() -> None:
    def show(choice: int, random: np.random.Generator) -> np.ndarray:
        prices = 50_000 + random.normal(size=(10, 2))
        prices[-1, 0] += 3 * (2 * choice - 1)
        return prices.astype(np.float32)

    space = spaces.Box(-np.inf, np.inf, (10, 2), np.float32)
    assert score_of(bandit("Prices", space, 2, show, "agent.normalize_observations=true")) > 0.95


@pytest.mark.parametrize(
    ("space", "active"),
    [
        (spaces.Box(-np.inf, np.inf, (), np.float32), True),
        (spaces.Box(-np.inf, np.inf, (30, 12), np.float32), True),
        (spaces.Box(0, 1, (30, 12), np.float32), True),
        (spaces.Box(-5, 5, (6, 7, 8), np.float32), True),
        (spaces.Box(-5, 5, (2, 3, 4, 5), np.float32), True),
        (spaces.Box(0, 255, (9, 9), np.uint8), False),
        (spaces.Box(0, 255, (9, 9, 3), np.float32), False),
        (spaces.Box(0, 1, (6, 9, 20), np.float32), False),
    ],
)
def test_what_is_normalised_is_not_divided(space: spaces.Box, active: bool) -> None:
    normalizer = Normalizer(space)
    obs = torch.from_numpy(np.stack([space.sample() for _ in range(300)]))[:, None]
    normalizer.update(obs)
    out = normalizer(obs)
    if not active:
        assert out is obs and normalizer.space is space
        return
    assert out.mean((0, 1)).abs().max() < 1e-4
    seen = Encoder(normalizer.space)(out, torch.zeros(300, 1))
    torch.testing.assert_close(seen, out.flatten(2) if out.ndim > 2 else out[..., None])
    image, before = image_space(normalizer.space), image_space(space)
    assert getattr(image, "channel_axis", 0) == getattr(before, "channel_axis", 0)


@pytest.mark.parametrize(
    ("sides", "architecture"),
    [
        ((10, 5), "small"),
        ((20, 20), "small"),
        ((3, 3), "impala"),
        ((30, 30), "impala"),
        ((10, 84), "impala"),
        ((36, 36), "nature"),
        ((84, 84), "nature"),
    ],
)
def test_a_cnn_for_each_size(sides: tuple[int, int], architecture: str) -> None:
    cnn = CNN(CNN.Config(), (1, *sides))
    assert cnn.architecture == architecture


def test_a_small_picture_is_learned_without_more_words() -> None:
    def show(choice: int, random: np.random.Generator) -> np.ndarray:
        picture = random.integers(0, 200, (10, 5, 1), np.uint8)
        picture[2 + 5 * choice, 2] = 255
        return picture

    space = spaces.Box(0, 255, (10, 5, 1), np.uint8)
    assert score_of(bandit("Small", space, 2, show, "network=cnn")) > 0.95


@pytest.mark.parametrize(
    ("words", "block"),
    [
        (["env=atari"], "cnn"),
        (["env=ALE/Breakout-v5"], "cnn"),
        (["env=atari", "env.id=ale_py:ALE/Breakout-v5"], "cnn"),
        (["env.id=ALE/Breakout-v5"], "cnn"),
        (["env=atari", "network=mlp"], "mlp"),
        (["env=atari", "env.id=CartPole-v1"], "mlp"),
        (["experiment=cartpole_ppo", "env=atari"], "mlp"),
        ([], "mlp"),
    ],
)
def test_atari_is_seen_by_a_cnn(words: list[str], block: str) -> None:
    assert load(words).network.blocks[0].name == block
