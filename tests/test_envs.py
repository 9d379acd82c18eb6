from __future__ import annotations

import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import gymnasium
import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from neuraxis.core.tree import leaves
from neuraxis.envs import AtariConfig, EnvConfig, EnvError, Envs, diagnostic, make
from neuraxis.envs.drawing import Drawing
from neuraxis.envs.episodes import episode_seed

# Box2D's SWIG types warn while they are imported; as an error this ends the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")

NEEDS = {"LunarLander": "Box2D", "Bipedal": "Box2D", "MiniGrid": "minigrid", "ALE": "ale_py"}
NEEDS |= {"HalfCheetah": "mujoco", "MinAtar": "minatar"}


def build(env_id: str, num_envs: int = 3, first_column: int = 0, **config: Any) -> Envs:
    for word, module in NEEDS.items():
        if word in env_id:
            pytest.importorskip(module)
    return make(EnvConfig(id=env_id, **config), num_envs, seed=7, first_column=first_column)


def register(name: str, creator: Any, **kwargs: Any) -> str:
    gymnasium.register(f"test/{name}-v0", creator, kwargs=kwargs)
    return f"test/{name}-v0"


def draw(envs: Envs, steps: int) -> list[np.ndarray]:
    random, space, batch = np.random.default_rng(0), envs.action_space, envs.num_envs
    if isinstance(space, spaces.Discrete):
        return list(random.integers(0, space.n, (steps, batch)))
    assert isinstance(space, spaces.Box)
    return list(random.uniform(-1.2, 1.2, (steps, batch, *space.shape)).astype(np.float32))


def same(one: Any, other: Any) -> bool:
    pairs = zip(leaves(one), leaves(other), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


register("BipedalWrapped", lambda: gymnasium.make("BipedalWalker-v3"))
RESTORED: list[tuple[str, dict[str, Any]]] = [
    ("CartPole-v1", {"vectorization": "sync"}),
    ("CartPole-v1", {"vectorization": "native"}),
    ("CartPole-v1", {"reseed": "once"}),
    ("LunarLander-v3", {"reseed": "once", "time_limit": 70}),
    ("MiniGrid-DoorKey-5x5-v0", {"reseed": "once", "time_limit": 70}),
    ("CartPole-v1", {"levels": 2}),
    ("neuraxis/Pendulum-v0", {"kwargs": {"mass": [0.5, 2.0]}}),
    ("CartPole-v1", {"frame_stack": 3, "mask_velocity": True}),
    ("Acrobot-v1", {"time_limit": 40}),
    ("Pendulum-v1", {}),
    ("LunarLander-v3", {}),
    ("BipedalWalker-v3", {"time_limit": 70}),
    ("test/BipedalWrapped-v0", {"time_limit": 70}),
    ("MiniGrid-DoorKey-5x5-v0", {"time_limit": 70}),
    ("HalfCheetah-v5", {"time_limit": 70}),
    ("MinAtar/Breakout-v1", {"kwargs": {"sticky_action_prob": 0.9}}),
    ("MinAtar/Seaquest-v1", {"image_layout": "hwc", "time_limit": 70}),
    ("neuraxis/Dict-v0", {}),
    ("neuraxis/Identity-v0", {"kwargs": {"action_space": "box"}, "last_action": True}),
    ("CartPole-v1", {"last_action": True}),
]


@pytest.mark.parametrize(("env_id", "config"), RESTORED)
def test_restored_envs_continue_bit_identically(env_id: str, config: dict[str, Any]) -> None:
    envs = build(env_id, **config)
    envs.reset()
    actions = draw(envs, 300)
    for action in actions[:150]:
        envs.step(action)
    snapshot = envs.snapshot()
    obs = envs.obs
    expected = [envs.step(action) for action in actions[150:]]
    assert sum(ended.sum() + cut.sum() for _, _, ended, cut in expected), "no episode ended"

    again = build(env_id, **config)
    assert again.restore(snapshot).all()
    assert same(again.obs, obs)
    for action, step in zip(actions[150:], expected, strict=True):
        assert same(again.step(action), step)
    envs.close()
    again.close()


def test_with_reseed_once_only_the_first_episode_has_a_seed() -> None:
    """As in Gymnasium's own loop: `reset(seed)`, then `reset()`; where one is over, too."""
    envs = build("CartPole-v1", reseed="once")
    single = gymnasium.make("CartPole-v1")
    expected = single.reset(seed=episode_seed(7, 1, 0))[0]
    assert np.array_equal(envs.reset()[1], expected)
    over = False
    for action in draw(envs, 200):
        before = envs.snapshot()
        obs, *_ = envs.step(action)
        if over:
            expected, over = single.reset()[0], False
        else:
            expected, _, *ends, _ = single.step(int(action[1]))
            over = any(ends)
        assert np.array_equal(obs[1], expected)
        if before["waiting"].any():
            again = build("CartPole-v1", reseed="once")
            assert again.restore(before).all()
            assert same(again.step(action)[0], obs)


class Stateful(diagnostic.Counter):
    """Its generator is its own: np_random does not bring its episodes back."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.own = np.random.default_rng(seed)
        obs, info = super().reset(seed=seed)
        return obs + self.own.random(dtype=np.float32), info


def test_with_reseed_once_what_does_not_come_back_opens_a_new_episode() -> None:
    env_id = register("Stateful", Stateful)
    envs = build(env_id, reseed="once")
    envs.reset()
    for action in draw(envs, 12):  # two episodes of five steps, and their resets
        envs.step(action)
    again = build(env_id, reseed="once")
    assert not again.restore(envs.snapshot()).any()


def test_an_environment_is_known_by_its_class_not_by_a_name() -> None:
    def bipedal_walker() -> diagnostic.Counter:
        return diagnostic.Counter()

    assert build(register("Walker", bipedal_walker)).reset().shape == (3, 1)


def test_a_restored_snapshot_is_not_changed_by_stepping() -> None:
    for vectorization in ("sync", "native"):
        envs = build("CartPole-v1", vectorization=vectorization)
        envs.reset()
        snapshot = envs.snapshot()
        copy = pickle.dumps(snapshot)
        envs.restore(snapshot)
        for action in draw(envs, 50):
            envs.step(action)
        assert pickle.dumps(snapshot) == copy


class Drifting(diagnostic.Counter):
    """Not deterministic: no reset brings an earlier episode back."""

    made = 0

    def _open(self) -> np.ndarray:
        Drifting.made += 1
        return np.full(1, Drifting.made, np.float32)

    def step(self, action: int) -> Any:
        obs, *rest = super().step(action)
        return obs + Drifting.made, *rest


def test_a_column_that_cannot_be_replayed_reopens() -> None:
    register("Drifting", Drifting, length=4)
    envs = build("test/Drifting-v0", num_envs=2)
    envs.reset()
    envs.step(np.zeros(2, int))
    again = build("test/Drifting-v0", num_envs=2)
    assert not again.restore(envs.snapshot()).any()
    _, reward, _, _ = again.step(np.zeros(2, int))
    assert reward.tolist() == [1, 1]  # the first step of a new episode


class Foreign(CartPoleVectorEnv):
    """A vector form of which it is not known what its state is made of."""


def test_a_foreign_vector_env_reopens() -> None:
    creator: Any = Foreign
    gymnasium.register("test/Foreign-v0", vector_entry_point=creator)
    envs, again = build("test/Foreign-v0"), build("test/Foreign-v0")
    opened = envs.reset()
    envs.step(np.zeros(3, int))
    assert not again.restore(envs.snapshot()).any()
    assert not np.isin(again.obs, opened).any(), "new episodes, not those of before"


class Exact(gymnasium.Env[np.ndarray, np.ndarray]):
    """Shows the sum of its actions, in the precision that they come in."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)

    def reset(self, **_: Any) -> Any:
        self.total: np.ndarray = np.zeros(1, np.float32)
        return self.total.astype(np.float64), {}

    def step(self, action: np.ndarray) -> Any:
        self.total = self.total + action / action.dtype.type(3)
        return self.total.astype(np.float64), 0.0, False, False, {}


def test_actions_are_replayed_in_the_precision_that_they_had() -> None:
    register("Exact", Exact)
    envs, again = build("test/Exact-v0"), build("test/Exact-v0")
    envs.reset()
    for action in draw(envs, 50):
        envs.step(action)
    assert again.restore(envs.snapshot()).all()


@pytest.mark.parametrize("vectorization", ["sync", "native"])
def test_an_episode_depends_on_its_column_not_on_the_batch(vectorization: str) -> None:
    whole = build("CartPole-v1", num_envs=4, vectorization=vectorization)
    parts = [build("CartPole-v1", 2, first, vectorization=vectorization) for first in (0, 2)]
    first = whole.reset()
    assert len(np.unique(first, axis=0)) == 4
    assert same(first, np.concatenate([part.reset() for part in parts]))
    for action in draw(whole, 200):
        halves = [part.step(half) for part, half in zip(parts, np.split(action, 2), strict=True)]
        joined = tuple(np.concatenate(arrays) for arrays in zip(*halves, strict=True))
        assert same(whole.step(action), joined)


def test_native_cartpole_plays_the_same_episodes_as_sync() -> None:
    native, sync = (build("CartPole-v1", vectorization=way) for way in ("native", "sync"))
    np.testing.assert_allclose(native.reset(), sync.reset())
    for action in draw(native, 200):
        for one, other in zip(native.step(action), sync.step(action), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("truncate", [False, True])
def test_a_finished_env_shows_its_last_observation_then_resets(truncate: bool) -> None:
    envs = build("neuraxis/Counter-v0", kwargs={"length": 3, "truncate": truncate})
    seen = [envs.reset()]
    ends, rewards = [], []
    for _ in range(8):
        obs, reward, terminated, truncated = envs.step(np.zeros(3, int))
        assert not (truncated if not truncate else terminated).any()
        seen.append(obs)
        ends.append(bool((terminated | truncated)[1]))
        rewards.append(reward[1])
    assert [float(obs[1, 0]) for obs in seen] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert rewards == [1, 2, 3, 0, 1, 2, 3, 0]
    assert ends == [False, False, True, False, False, False, True, False]


@pytest.mark.parametrize("config", [{}, {"vectorization": "sync"}, {"mask_velocity": True}])
def test_a_later_step_leaves_earlier_observations_alone(config: dict[str, Any]) -> None:
    envs = build("CartPole-v1", **config)
    seen = [envs.reset()]
    copies = [seen[0].copy()]
    for action in draw(envs, 30):
        seen.append(envs.step(action)[0])
        copies.append(seen[-1].copy())
    assert all(same(one, other) for one, other in zip(seen, copies, strict=True))
    assert all(obs.flags.c_contiguous and obs.dtype == np.float32 for obs in seen)


@pytest.mark.parametrize("vectorization", ["sync", "native"])
def test_time_limit_and_kwargs_reach_the_constructor(vectorization: str) -> None:
    kwargs = {"sutton_barto_reward": True}
    envs = build("CartPole-v1", time_limit=4, kwargs=kwargs, vectorization=vectorization)
    envs.reset()
    for step in range(4):
        _, reward, terminated, truncated = envs.step(np.array([step % 2] * 3))
        assert (reward == 0).all() and not terminated.any()
        assert truncated.all() == (step == 3)


def test_seeds_fit_into_an_int32() -> None:
    class Narrow(diagnostic.Counter):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            assert seed is not None
            seeds.append(np.int32(seed))
            return super().reset(seed=seed)

    seeds: list[np.int32] = []
    register("Narrow", Narrow, length=1)
    envs = build("test/Narrow-v0", num_envs=20)
    envs.reset()
    for _ in range(4):
        envs.step(np.zeros(20, int))
    assert len({*seeds}) == 60 and max(seeds) > 2**30, "all of the 31 bits are in use"


class Odd(diagnostic.Counter):
    """Gives its numbers in arrays."""

    def __init__(self, shape: list[int], fault: str = "") -> None:
        super().__init__(length=2)
        self.shape, self.fault = shape, fault

    def step(self, action: int) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        numbers = {"reward": reward / 2, "terminated": terminated, "truncated": truncated}
        shaped = {name: np.full(self.shape, number) for name, number in numbers.items()}
        if self.fault:
            shaped |= {self.fault: np.zeros(2)}
        return obs, *shaped.values(), info


class OddVector(CartPoleVectorEnv):
    def step(self, action: np.ndarray) -> Any:
        obs, *numbers, info = super().step(action)
        return obs, *(number[:, None] for number in numbers), info


register("Odd", Odd)


class LateVector(CartPoleVectorEnv):
    """Gives one reward for all columns, but not in its first steps."""

    def step(self, action: np.ndarray) -> Any:
        obs, reward, *rest = super().step(action)
        self.count = getattr(self, "count", 0) + 1
        return obs, (reward if self.count < 1_200 else np.float32(1)), *rest


odd_vector: Any = OddVector
gymnasium.register("test/OddVector-v0", vector_entry_point=odd_vector)
late_vector: Any = LateVector
gymnasium.register("test/LateVector-v0", vector_entry_point=late_vector)


@pytest.mark.parametrize("shape", [[], [1], [1, 1]])
def test_an_array_of_one_number_is_that_number(shape: list[int]) -> None:
    envs = build("test/Odd-v0", kwargs={"shape": shape})
    envs.reset()
    steps = [envs.step(np.zeros(3, int)) for _ in range(4)]
    assert [reward.tolist() for _, reward, _, _ in steps] == [
        [0.5] * 3,
        [1] * 3,
        [0] * 3,
        [0.5] * 3,
    ]
    assert [ended.tolist() for _, _, ended, _ in steps] == [[end] * 3 for end in (0, 1, 0, 0)]


def test_a_vector_form_may_give_a_column_of_numbers() -> None:
    envs = build("test/OddVector-v0")
    envs.reset()
    _, reward, terminated, truncated = envs.step(np.zeros(3, int))
    assert reward.tolist() == [1, 1, 1] and terminated.shape == truncated.shape == (3,)


def test_the_numbers_of_a_vector_form_are_looked_at_in_each_step() -> None:
    """One reward for all would be taken for that of each, long after observations were checked."""
    envs = build("test/LateVector-v0")
    envs.reset()
    with pytest.raises(EnvError, match=r"step 1200: .*reward has shape \(\); expected \(3,\)"):
        for _ in range(1_300):
            envs.step(np.zeros(3, int))


@pytest.mark.parametrize("fault", ["reward", "terminated", "truncated"])
def test_what_is_not_one_number_is_named(fault: str) -> None:
    envs = build("test/Odd-v0", kwargs={"shape": [1], "fault": fault})
    envs.reset()
    with pytest.raises(
        EnvError, match=rf"step 1: {fault} is array\(\[0., 0.\]\); expected a number"
    ):
        envs.step(np.zeros(3, int))


# --- what the agent sees and does


@pytest.mark.parametrize("vectorization", ["sync", "native"])
def test_mask_velocity_keeps_the_positions(vectorization: str) -> None:
    plain = build("CartPole-v1", vectorization=vectorization)
    masked = build("CartPole-v1", vectorization=vectorization, mask_velocity=True)
    assert masked.observation_space.shape == (2,)
    assert same(masked.reset(), np.ascontiguousarray(plain.reset()[:, [0, 2]]))


def test_frame_stack_joins_frames_and_flatten_makes_one_vector() -> None:
    envs = build("CartPole-v1", frame_stack=2)
    first = envs.reset()
    assert envs.observation_space.shape == (8,) and first.shape == (3, 8)
    second = envs.step(np.zeros(3, int))[0]
    np.testing.assert_array_equal(second[:, :4], first[:, 4:])

    envs = build("neuraxis/Dict-v0", flatten=True, kwargs={"size": 2})
    space = envs.observation_space
    # image 2x2x1, number one-hot 2, tuple one-hot 2 + bits 2, vector 3
    assert space.shape == (13,) and envs.reset().shape == (3, 13)
    assert all(space.contains(row) for row in envs.reset())

    envs = build("neuraxis/Dict-v0", frame_stack=2)
    space, obs = envs.observation_space, envs.reset()
    assert isinstance(space, spaces.Dict) and space["image"].shape == (36, 36, 2)
    assert obs["image"].shape == (3, 36, 36, 2) and obs["number"].shape == (3, 2)


def test_box_actions_are_scaled_to_the_bounds_and_clipped() -> None:
    class Echo(diagnostic.Identity):
        def step(self, action: Any) -> Any:
            assert action.dtype == np.float32
            return action, 0.0, False, False, {}

    low, high = np.array([-2, 0], np.float32), np.array([2, 10], np.float32)

    def echo() -> Echo:
        env = Echo("box", size=2)
        env.action_space = spaces.Box(low, high)
        return env

    register("Echo", echo)
    envs = build("test/Echo-v0", num_envs=2)
    assert envs.action_space == spaces.Box(-1, 1, (2,))
    envs.reset()
    actions = np.array([[-1, 1], [5, 0]], np.float32)
    np.testing.assert_array_equal(envs.step(actions)[0], [[-2, 10], [2, 5]])

    envs = build("test/Echo-v0", num_envs=2, rescale_actions=False)
    assert envs.action_space == spaces.Box(low, high)
    envs.reset()
    np.testing.assert_array_equal(envs.step(actions)[0], [[-1, 1], [2, 0]])


def test_discrete_spaces_count_from_zero() -> None:
    class Shifted(diagnostic.Identity):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = self.observation_space = spaces.Discrete(3, start=5)

        def _open(self) -> int:
            return 6

        def step(self, action: Any) -> Any:
            return action, 0.0, False, False, {}

    register("Shifted", Shifted)
    envs = build("test/Shifted-v0", num_envs=2)
    assert envs.observation_space == envs.action_space == spaces.Discrete(3)
    assert envs.reset().tolist() == [1, 1]
    assert envs.step(np.array([0, 2]))[0].tolist() == [0, 2]


def test_minigrid_drops_the_mission_and_knows_its_bound() -> None:
    envs = build("MiniGrid-Empty-5x5-v0")
    space = envs.observation_space
    assert isinstance(space, spaces.Dict) and set(space.spaces) == {"direction", "image"}
    image = space["image"]
    assert isinstance(image, spaces.Box) and image.high.max() == 10
    assert set(envs.reset()) == {"direction", "image"}


def test_ale_plays_the_same_frames_in_cpp_as_in_single_envs() -> None:
    atari = AtariConfig(noop_max=0, sticky=0, fire_reset=False)
    cpp, sync = (
        build("ALE/Breakout-v5", 2, atari=atari, vectorization=way, time_limit=9)
        for way in ("native", "sync")
    )
    assert cpp.observation_space == sync.observation_space
    assert same(cpp.reset(), sync.reset())
    for action in draw(cpp, 21):
        one, other = cpp.step(action), sync.step(action)
        assert same(one, other), "grey 84x84 frames, stacked over resets"
    snapshot = cpp.snapshot()
    assert not cpp.restore(snapshot).any() and cpp.obs.shape == (2, 4, 84, 84)


def breakout(way: str, episodic_life: bool, fire: bool = True, **config: Any) -> Envs:
    atari = AtariConfig(noop_max=0, sticky=0, episodic_life=episodic_life, fire_reset=fire)
    return build("ALE/Breakout-v5", 2, atari=atari, vectorization=way, **config)


@pytest.mark.parametrize("way", ["native", "sync"])
def test_a_lost_life_ends_the_episode_and_not_the_game(way: str) -> None:
    """The frames are those of the whole game in which fire is pressed after each lost life."""
    games, lives = (breakout(way, episodic_life) for episodic_life in (False, True))
    assert same(games.reset(), lives.reset())
    opens, counts = np.zeros(2, bool), np.zeros((2, 2), int)
    for action in draw(lives, 260):
        obs, reward, over, _ = games.step(np.where(opens, 1, action))
        seen, rewarded, ended, _ = lives.step(action)
        assert same(obs, seen)
        assert np.array_equal(rewarded, np.where(opens, 0, reward))
        assert (ended | ~over).all()
        counts += over, ended
        opens = ended
    assert (counts[0] == 1).all(), "one game ends"
    assert (counts[1] >= 5).all(), "with its fifth life"


def test_a_game_may_end_in_the_step_between_two_lives() -> None:
    """Step 24 loses a life and 25, which opens the next one, reaches the limit of 26 steps."""
    cpp, sync = (breakout(way, True, fire=False, time_limit=26) for way in ("native", "sync"))
    assert same(cpp.reset(), sync.reset())
    ends = []
    for t in range(60):
        action = np.full(2, int(t % 25 == 0))  # fire
        one, other = cpp.step(action), sync.step(action)
        assert same(one, other)
        if one[2].all() or one[3].all():
            ends.append(t)
    assert ends == [24, 25 + 26], "step 25 opened a new game"


@pytest.mark.parametrize("steps_after", [0, 20])
def test_a_lost_life_is_restored(steps_after: int) -> None:
    envs, again = breakout("sync", True), breakout("sync", True)
    envs.reset()
    actions = iter(draw(envs, 150))
    while not envs.step(next(actions))[2].any():
        pass
    for action in islice(actions, steps_after):
        envs.step(action)
    assert again.restore(envs.snapshot()).all()
    for action in islice(actions, 50):
        assert same(again.step(action), envs.step(action))


def test_video_of_the_first_environment(tmp_path: Any) -> None:
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    folder = tmp_path / "videos"
    envs = make(EnvConfig(time_limit=5), 2, seed=0, drawing=Drawing(video=str(folder)))
    envs.reset()
    for _ in range(7):
        envs.step(np.zeros(2, int))
    envs.close()
    assert [path.suffix for path in folder.iterdir()] == [".mp4"]  # of the first episode only


def test_pictures_of_floats_are_no_black_film(tmp_path: Any) -> None:
    """MinAtar's are in [0, 1]."""
    pytest.importorskip("minatar")
    config = EnvConfig(id="MinAtar/Breakout-v1", time_limit=3)
    envs = make(config, 1, seed=0, drawing=Drawing(video=str(tmp_path / "videos")))
    envs.reset()
    for _ in range(3):
        envs.step(np.zeros(1, int))
    envs.close()
    (film,) = tmp_path.glob("videos/*.mp4")
    form = "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(film), *form]
    frame = subprocess.run(words, capture_output=True, check=True).stdout
    assert len(frame) == 10 * 10 * 3 and max(frame) > 150


# --- what goes wrong


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"id": "CartPole-v7"}, ["CartPole-v7", "did you mean CartPole-v1?"]),
        ({"id": "CartPoel-v1"}, ["did you mean CartPole-v1"]),
        ({"id": "no_such_module:Foo-v0"}, ["no_such_module:Foo-v0", "No module named"]),
        ({"kwargs": {"gravity": 1}}, ["env.kwargs.gravity=1: CartPole-v1 has no such argument"]),
        ({"kwargs": {"num_envs": 1}}, ["env.kwargs.num_envs=1: CartPole-v1 has no such argument"]),
        ({"id": "Acrobot-v1", "vectorization": "native"}, ["Acrobot-v1", "no vector entry point"]),
        ({"vectorization": "native", "frame_stack": 2}, ["env.frame_stack"]),
        ({"id": "phys2d/CartPole-v1", "vectorization": "native"}, ["JAX"]),
        ({"id": "neuraxis/Dict-v0", "mask_velocity": True}, ["env.mask_velocity", "CartPole"]),
    ],
)
def test_what_cannot_be_made_is_one_line(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        make(EnvConfig(**config), 2, seed=0)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_no_name_is_suggested_that_is_refused() -> None:
    """The newest version of each, and none whose making raises by design."""
    for package in ("ale_py", "minigrid"):
        pytest.importorskip(package)
    from neuraxis.envs import ids

    suggested = ids.offered()
    assert {"CartPole-v1", "ALE/Pong-v5", "MiniGrid-Empty-5x5-v0", "Ant-v5"} <= set(suggested)
    assert {"CartPole-v0", "Ant-v3", "Pusher-v4", "Pong-v4", "GymV26Environment-v0"}.isdisjoint(
        suggested
    )
    for name in suggested:
        if str(gymnasium.spec(name).entry_point).startswith("gymnasium."):
            make(EnvConfig(id=name), 1, 0).close()


def test_an_argument_of_any_name_reaches_the_constructor() -> None:
    """Gymnasium's `make` has a `max_episode_steps` of its own."""

    def create(max_episode_steps: int, id: int) -> gymnasium.Env[Any, Any]:
        return diagnostic.Counter(length=max_episode_steps + id)

    creator: Any = create
    gymnasium.register("test/Named-v0", creator)
    envs = build("test/Named-v0", kwargs={"max_episode_steps": 3, "id": 1})
    envs.reset()
    ends = [bool(envs.step(np.zeros(3, int))[2].all()) for _ in range(4)]
    assert ends == [False, False, False, True]


def test_vector_envs_that_reset_in_the_same_step_are_refused() -> None:
    class SameStep(gymnasium.vector.VectorEnv):
        def __init__(self, num_envs: int) -> None:
            self.num_envs = num_envs
            self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}

    creator: Any = SameStep
    gymnasium.register("test/SameStep-v0", vector_entry_point=creator)
    with pytest.raises(ValueError, match="NEXT_STEP"):
        build("test/SameStep-v0")
    gymnasium.register(
        "test/SameStep-v1", "neuraxis.envs.builtin.diagnostic:Counter", vector_entry_point=creator
    )
    assert build("test/SameStep-v1").reset().shape == (3, 1)  # auto has the single form


def test_the_wrappers_of_an_id_are_kept() -> None:
    """They wrap single environments; the native form of the same id would do without them."""
    creator: Any = CartPoleVectorEnv
    counter: Any = diagnostic.Counter
    negated = gymnasium.wrappers.TransformReward.wrapper_spec(func=operator.neg)
    for name, single in (("Negated", counter), ("NegatedVector", None)):
        gymnasium.registry.pop(f"test/{name}-v0", None)
        gymnasium.register(
            f"test/{name}-v0",
            single,
            vector_entry_point=creator,
            additional_wrappers=(negated,),
        )
    envs = build("test/Negated-v0")
    envs.reset()
    assert envs.step(np.zeros(3, int))[1].tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="vectorization=native: its additional_wrappers"):
        build("test/Negated-v0", vectorization="native")
    with pytest.raises(ValueError, match=r"auto: its additional_wrappers .* no single form"):
        build("test/NegatedVector-v0")


def test_unsupported_spaces_are_named() -> None:
    class Talking(diagnostic.Counter):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"said": spaces.Text(5)})

    register("Talking", Talking)
    with pytest.raises(ValueError, match=r"Talking-v0: observation_space\['said'\] is a Text"):
        build("test/Talking-v0")

    class Handy(diagnostic.Counter):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.Tuple([spaces.Discrete(2)])

    register("Handy", Handy)
    with pytest.raises(ValueError, match="Handy-v0: action_space is a Tuple"):
        build("test/Handy-v0")


def test_a_missing_package_names_its_extra(tmp_path: Any, monkeypatch: Any) -> None:
    for module in ("ale_py", "minatar", "minigrid", "moviepy"):
        monkeypatch.setitem(sys.modules, module, None)
    ids = {
        "ALE/Pong-v5": "atari",
        "MinAtar/Breakout-v1": "minatar",
        "MiniGrid-Empty-5x5-v0": "minigrid",
    }
    for env_id, extra in ids.items():
        with pytest.raises(ValueError, match=rf"pip install 'neuraxis\[{extra}\]'"):
            make(EnvConfig(id=env_id), 1, seed=0)
    with pytest.raises(ValueError, match=r"pip install 'neuraxis\[video\]'"):
        make(EnvConfig(), 1, seed=0, drawing=Drawing(video=str(tmp_path / "videos")))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"raise_at_step": 2}, ["column 5", "seed", ", step 2: RuntimeError: step 2 is faulty"]),
        ({"raise_at_reset": 1}, ["column 5", ", reset: RuntimeError: reset 1 is faulty"]),
        ({"raise_at_reset": 2, "length": 1}, [", reset: RuntimeError: reset 2 is faulty"]),
        ({"probability": 1.0}, [", step 1: RuntimeError"]),
    ],
)
def test_what_an_env_raises_is_one_line(kwargs: dict[str, Any], words: list[str]) -> None:
    envs = build("neuraxis/Faulty-v0", num_envs=1, first_column=5, kwargs=kwargs)
    with pytest.raises(EnvError) as caught:
        envs.reset()
        for _ in range(3):
            envs.step(np.zeros(1, int))
    message = str(caught.value)
    assert message.startswith("neuraxis/Faulty-v0") and "\n" not in message
    assert all(word in message for word in words), message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


class Crooked(diagnostic.Counter):
    """Its steps raise, itself or in a library."""

    def __init__(self, weigh: Callable[[str], Any]) -> None:
        super().__init__()
        self._weigh = weigh

    def step(self, action: int) -> Any:
        return self._weigh("2")


CROOKED: list[Callable[[str], Any]] = [
    lambda weights: {}[weights],
    lambda weights: np.reshape(weights, 3),
    lambda weights: imageio.imread(f"{weights}.png"),  # no library that neuraxis knows by name
]


@pytest.mark.parametrize("place", range(3), ids=["own", "numpy", "imageio"])
def test_an_error_shows_the_line_of_the_persons_own_code(place: int) -> None:
    line = CROOKED[place].__code__.co_firstlineno
    envs = build(register(f"Crooked{place}", lambda: Crooked(CROOKED[place])))
    envs.reset()
    with pytest.raises(EnvError, match=rf"step 1: .*\(.*test_envs.py:{line}\)$"):
        envs.step(np.zeros(3, int))


def test_an_observation_outside_its_space_is_said() -> None:
    class Wide(diagnostic.Counter):
        def _open(self) -> np.ndarray:
            return np.zeros(3, np.float32)

    register("Wide", Wide)
    with pytest.raises(EnvError, match=r"shape \(3,\).* says \(1,\)"):
        build("test/Wide-v0").reset()


def test_a_module_in_the_current_directory_is_found(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "my_games.py").write_text(
        "import gymnasium\n"
        "from neuraxis.envs.builtin import diagnostic\n"
        "gymnasium.register('MyGame-v0', diagnostic.Counter)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert build("my_games:MyGame-v0").reset().shape == (3, 1)


def test_importing_envs_imports_no_simulator() -> None:
    heavy = "mujoco ale_py minigrid moviepy pygame matplotlib cv2 Box2D".split()
    code = f"import sys, neuraxis.envs; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# --- diagnostic environments


def test_every_diagnostic_env_is_registered_and_says_what_it_is() -> None:
    for env in diagnostic.ENVS:
        assert env.__doc__ and f"neuraxis/{env.__name__}-v0" in gymnasium.registry


@pytest.mark.parametrize("kind", ["discrete", "multidiscrete", "multibinary", "box"])
def test_identity_rewards_its_observation(kind: str) -> None:
    envs = build("neuraxis/Identity-v0", kwargs={"action_space": kind, "length": 4})
    obs, total = envs.reset(), np.zeros(3)
    for step in range(4):
        obs, reward, terminated, truncated = envs.step(obs)
        total += reward
        assert not terminated.any() and truncated.all() == (step == 3)
    np.testing.assert_allclose(total, 4)


def test_memory_rewards_the_cue_and_shows_it_once() -> None:
    for flip, expected in ((0, 1.0), (1, -1.0)):
        envs = build("neuraxis/Memory-v0", num_envs=8, kwargs={"delay": 5})
        obs = envs.reset()
        cue = obs[:, :2].argmax(1)
        assert set(cue) == {0, 1} and (obs.sum(1) == 1).all()
        for step in range(5):
            obs, reward, terminated, _ = envs.step(1 - cue)
            assert not reward.any() and not terminated.any() and not obs[:, :2].any()
            assert (obs[:, 2] == (step == 4)).all()
        _, reward, terminated, _ = envs.step(cue ^ flip)
        assert (reward == expected).all() and terminated.all()


@pytest.mark.parametrize("kind", ["discrete", "multidiscrete", "multibinary", "box"])
def test_dict_is_solved_by_reading_every_part(kind: str) -> None:
    envs = build("neuraxis/Dict-v0", kwargs={"length": 6, "action_space": kind})
    obs, total = envs.reset(), 0.0
    for _ in range(6):
        bits = [obs["image"][:, 0, 0, 0] > 0, obs["vector"][:, 0] > 0]
        bits += [obs["number"] > 0, obs["tuple"][0] > 0]
        actions = {
            "discrete": np.sum([bit.astype(int) << i for i, bit in enumerate(bits)], 0),
            "box": 2.0 * np.stack(bits, 1) - 1,
        }
        obs, reward, _, _ = envs.step(actions.get(kind, np.stack(bits, 1).astype(int)))
        total += reward
    np.testing.assert_allclose(total, 6)


def test_truncation_never_terminates() -> None:
    envs = build("neuraxis/Truncation-v0", kwargs={"limit": 2})
    envs.reset()
    for cut in (False, True, False, False, True):
        _, _, terminated, truncated = envs.step(np.zeros(3, int))
        assert not terminated.any() and truncated.all() == cut
