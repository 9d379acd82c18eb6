from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image, ImageSequence

from neuraxis.agents.policies.policy import Policy
from neuraxis.envs import AtariConfig, EnvConfig, make
from neuraxis.envs.drawing import Drawing
from neuraxis.envs.episodes import episode_seed
from neuraxis.training.evaluate import evaluate, evaluation_seed, play, summarize
from neuraxis.training.film import View


class Push(Policy):
    """Pushes CartPole left if the noise is below one half, and greedily always right."""

    noise_size = 1

    def __init__(self) -> None:
        super().__init__(spaces.Box(-np.inf, np.inf, (4,)), spaces.Discrete(2), normalize=False)
        self.dropout = torch.nn.Dropout()
        self.frozen = torch.nn.Dropout().eval()
        self.modes: set[bool] = set()

    def initial_state(self, batch: int) -> Any:
        return ()

    def act(
        self, obs: Any, state: Any, first: Any, noise: Any = None, greedy: bool = False
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], Any]:
        self.modes.add(self.training)
        action = (
            torch.ones(len(first), dtype=torch.int64) if greedy else (noise[:, 0] >= 0.5).long()
        )
        return action, {}, state


CARTPOLE = EnvConfig(id="CartPole-v1", vectorization="sync")


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_same_seed_gives_the_same_episodes(stochastic: bool) -> None:
    policy = Push()
    generator = torch.get_rng_state()
    a, b, c = (play(policy, CARTPOLE, 10, seed, 4, stochastic) for seed in (1, 1, 2))
    assert a.shape == (10, 3)
    assert np.array_equal(a, b, equal_nan=True) and np.isnan(a[:, 2]).all()
    assert not np.array_equal(a[:, :2], c[:, :2])
    assert np.array_equal(a[:, 0], a[:, 1])  # CartPole pays 1 a step
    assert policy.modes == {False}
    assert (policy.training, policy.dropout.training, policy.frozen.training) == (True, True, False)
    assert torch.equal(generator, torch.get_rng_state())


def test_each_environment_has_its_quota() -> None:
    """The first episodes of each column, whatever others do: 7 over 3 columns are 3, 2, 2."""
    policy = Push()
    seven, nine = (play(policy, CARTPOLE, n, 0, 3, True) for n in (7, 9))
    columns = nine.reshape(3, 3, 3)
    expected = np.concatenate([columns[0], columns[1, :2], columns[2, :2]])
    assert np.array_equal(seven, expected, equal_nan=True)
    assert len(play(policy, CARTPOLE, 2, 0, num_envs=8)) == 2


def test_metrics() -> None:
    # returns 1, 3: mean 2, deviation 1; lengths 10, 30: mean 20
    assert summarize(np.array([[1.0, 10.0, 1.0], [3.0, 30.0, np.nan]])) == {
        "evaluate/return": 2.0,
        "evaluate/return_std": 1.0,
        "evaluate/length": 20.0,
        "evaluate/episodes": 2,
        "evaluate/success": 1.0,  # of those that tell
    }
    with pytest.raises(ValueError, match="episodes: 0, expected 1 or more"):
        evaluate(Push(), CARTPOLE, 0, 0)


def test_video_of_the_first_episode(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    path = tmp_path / "videos" / "play.mp4"
    evaluate(Push(), CARTPOLE, 2, 0, view=View(path))
    assert path.stat().st_size > 1000
    assert list(path.parent.iterdir()) == [path]


def test_a_gif_has_the_frames_of_the_episode(tmp_path: Path) -> None:
    """Half of them: CartPole has 50 a second, which is more than a GIF needs."""
    path = tmp_path / "play.GIF"
    metrics = evaluate(Push(), CARTPOLE, 1, 0, view=View(path))
    with Image.open(path) as opened:
        gif: Any = opened
        assert gif.format == "GIF" and gif.size == (600, 400)
        seconds = sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) / 1000
        assert gif.n_frames == pytest.approx(25 * seconds)
    assert seconds == pytest.approx((metrics["evaluate/length"] + 1) / 50, abs=0.05)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"video play.avi: expected a file .* \.mp4 or \.gif"):
        evaluate(Push(), CARTPOLE, 1, 0, view=View("play.avi"))


def test_a_window_shows_every_step_of_the_same_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame: Any = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    native = CARTPOLE.model_copy(update={"vectorization": "native", "time_limit": 5})
    shown: list[tuple[int, int]] = []
    size = pygame.display.get_window_size
    monkeypatch.setattr(pygame.display, "flip", lambda: shown.append(size()))
    seen = play(Push(), native, 2, 0, num_envs=8, view=View(window=True))
    assert np.array_equal(seen, play(Push(), native, 2, 0, num_envs=1), equal_nan=True)
    assert len(shown) == seen[:, 1].sum() + 2, "a picture a step, and two resets"
    assert set(shown) == {(600, 400)}
    says = "'neuraxis/Dict-v0': cannot be shown: it has no render mode, not human or rgb_array"
    with pytest.raises(ValueError, match=says):
        make(EnvConfig(id="neuraxis/Dict-v0"), 1, 0, drawing=Drawing(window=True))


def test_evaluation_opens_other_episodes_than_training() -> None:
    seeds = {evaluation_seed(0, *key) for key in ((1, 500), (1, 1000), (2,), (3,))}
    opened = {episode_seed(seed, 0, 0) for seed in (0, *seeds)}
    assert len(opened) == 5


def test_what_ends_episodes_in_training_and_hinders_films_is_switched_off() -> None:
    atari = AtariConfig(episodic_life=True)
    config = EnvConfig(id="ALE/Pong-v5", vectorization="native", atari=atari)
    assert not config.for_evaluation().atari.episodic_life
    assert config.for_evaluation().vectorization == "native"
    assert config.for_evaluation(filmed=True).vectorization == "sync"


def test_a_native_environment_can_be_filmed(tmp_path: Path) -> None:
    path = tmp_path / "play.mp4"
    evaluate(Push(), CARTPOLE.model_copy(update={"vectorization": "native"}), 1, 0, view=View(path))
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("Acrobot-v1", r"'Acrobot-v1': observation_space Box\(.*, the policy was made for Box\("),
        ("CartPole-v1", r"'CartPole-v1': action_space Discrete\(2\), .* made for Discrete\(3\)"),
    ],
)
def test_a_policy_for_other_spaces_is_refused(env_id: str, says: str) -> None:
    policy = Push()
    policy.action_space = spaces.Discrete(3)
    with pytest.raises(ValueError, match=says):
        play(policy, EnvConfig(id=env_id), 1, 0)
