"""Augmentation: shifts of images and noise, in learning only and on both sides of a target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from neuraxis.agents.augmentation import Augmentation, AugmentConfig, shifted
from neuraxis.agents.policies.policy import Policy
from neuraxis.core.action_mask import ActionMask
from neuraxis.core.images import ImageSpace, image_space

from .helpers import WITH_NETWORK, Training, claimed, quick, training, weights

T, N = 3, 40
LAYOUTS = {"hwc": (9, 12, 3), "chw": (3, 9, 12), "hw": (9, 12)}
IMAGES = ("env=neuraxis/Dict-v0", "network=cnn_small", "num_envs=2")


def policy(space: Any, normalize: bool = False) -> Policy:
    return Policy(space, spaces.Discrete(2), normalize)


def picture(layout: str) -> ImageSpace:
    space = image_space(spaces.Box(0, 255, LAYOUTS[layout], np.uint8))
    assert space is not None
    return space


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_is_padded_by_its_edge_and_cropped(layout: str) -> None:
    """As DrQ does: of all offsets one gives the image, the same one in all steps of a column."""
    torch.manual_seed(0)
    images = torch.randint(256, (T, N, *LAYOUTS[layout]), dtype=torch.uint8)
    result = shifted(images, picture(layout), 2)
    assert result.shape == images.shape and result.dtype == images.dtype
    first = {"hwc": (0, 1, 4, 2, 3), "chw": range(5), "hw": range(4)}[layout]
    plain, found = (x.permute(*first).float().reshape(T, N, -1, 9, 12) for x in (images, result))
    padded = F.pad(plain.flatten(0, 1), (2, 2, 2, 2), mode="replicate").unflatten(0, (T, N))
    offsets = set()
    for column in range(N):
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(
                found[:, column], padded[:, column, :, down : down + 9, right : right + 12]
            )
        ]
        assert len(fits) == 1
        offsets |= set(fits)
    assert {down for down, _ in offsets} == {right for _, right in offsets} == set(range(5))


def noise_of(space: spaces.Box, obs: Tensor, **settings: Any) -> Tensor:
    chosen = policy(space, **settings)
    if chosen.normalizer is not None:
        chosen.normalizer.update(torch.randn(20, 50, *space.shape) * torch.tensor([1.0, 10.0]))
    return Augmentation(AugmentConfig(noise=0.1), chosen)(obs) - obs.float()


def test_noise_is_in_units_of_what_the_network_reads() -> None:
    torch.manual_seed(0)
    vector = spaces.Box(-np.inf, np.inf, (2,))
    zeros = torch.zeros(T, 5_000, 2)
    plain = noise_of(vector, zeros).flatten(0, 1).std(0)
    torch.testing.assert_close(plain, torch.tensor([0.1, 0.1]), rtol=0.05, atol=0)
    normalized = noise_of(vector, zeros, normalize=True).flatten(0, 1).std(0)
    torch.testing.assert_close(normalized, torch.tensor([0.1, 1.0]), rtol=0.1, atol=0)
    image = noise_of(picture("hw"), torch.zeros(T, 50, 9, 12, dtype=torch.uint8))
    assert float(image.std()) == pytest.approx(25.5, rel=0.05)
    steps = noise_of(vector, zeros)
    assert not torch.equal(steps[0], steps[1])


def test_only_boxes_change_and_no_mask_does() -> None:
    space = spaces.Dict(
        {
            "image": picture("hwc"),
            "state": spaces.Tuple([spaces.Box(-1, 1, (3,)), spaces.Discrete(4)]),
            "action_mask": ActionMask(2),
        }
    )
    obs = {
        "image": torch.randint(256, (T, N, *LAYOUTS["hwc"]), dtype=torch.uint8),
        "state": (torch.zeros(T, N, 3), torch.zeros(T, N, dtype=torch.int64)),
        "action_mask": torch.ones(T, N, 2),
    }
    for normalize in (False, True):
        augment = Augmentation(AugmentConfig(noise=0.5, shift=1), policy(space, normalize))
        changed = augment(obs)
        assert changed["action_mask"] is obs["action_mask"]
        assert changed["state"][1] is obs["state"][1]
        assert not torch.equal(changed["state"][0], obs["state"][0])
        assert not torch.equal(changed["image"], obs["image"].float())
    moved = Augmentation(AugmentConfig(shift=1), policy(space))(obs)
    assert moved["state"][0] is obs["state"][0], "a vector is not shifted"


def build(agent: str, *words: str) -> Training:
    env = "CartPole-v1" if "discrete" in claimed(agent) else "Pendulum-v1"
    return training(f"agent={agent}", *quick(agent), f"env={env}", "num_envs=2", *words)


@pytest.mark.parametrize("agent", WITH_NETWORK)
def test_every_agent_learns_from_other_observations_than_it_acts_on(agent: str) -> None:
    """Acting does not change, so that the first rollouts are the same; learning does."""
    plain, noisy = build(agent), build(agent, "agent.augment.noise=0.5")
    rollouts = [run.rollout() for run in (plain, noisy)]
    assert torch.equal(rollouts[0].obs, rollouts[1].obs)
    for run, rollout in zip((plain, noisy), rollouts, strict=True):
        run.agent.learn(rollout)
        run.source.publish(run.agent.policy)
        for _ in range(3):
            run.step()
    assert torch.isfinite(weights(noisy.agent)).all()
    assert not torch.equal(weights(plain.agent), weights(noisy.agent))


@pytest.mark.parametrize("agent", ["dqn", "sac"])
def test_both_sides_of_a_target_have_the_same_shift(agent: str, monkeypatch: Any) -> None:
    """The whole window of a replay is shifted at once, the next observation with it."""
    words = (*quick(agent), "agent.n_step=3", "agent.augment.shift=2")
    run = training(f"agent={agent}", *IMAGES, *words)
    seen: list[Tensor] = []
    augment = run.agent.augmentation
    monkeypatch.setattr(run.agent, "augmentation", lambda obs: seen.append(obs) or augment(obs))
    for _ in range(3):
        run.step()
    assert {len(next(iter(obs.values()))) for obs in seen} == {4}


def test_targets_of_fresh_rollouts_are_of_what_was_seen() -> None:
    words = ("agent.n_epochs=1", "agent.batch_size=null", "agent.n_steps=16")
    found = []
    for more in ((), ("agent.augment.noise=0.5",)):
        run = build("ppo", *words, *more)
        batch = run.agent.batch_of(run.rollout())[0]
        minibatch = next(run.agent.minibatches(batch))
        if more:
            minibatch = run.agent.augmented(minibatch, run.agent.augmentation)
        found.append(minibatch)
    plain, noisy = found
    same = {name for name in plain if torch_equal(plain[name], noisy[name])}
    assert set(plain) - same == {"obs", "log_prob", "value"}, "the last two are the old policy's"


def torch_equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("agent.augment.shift=4",), r"augment\.shift=4: there is no image in Box"),
        ((*IMAGES, "agent.augment.shift=40"), r"shift=40: expected less than the \d+ pixels"),
        (("env=FrozenLake-v1", "agent.augment.noise=0.1"), r"noise=0.1: there is no Box in Disc"),
        (("agent=dqn", "agent.augment.shift=1"), r"shift=1: there is no image in Box"),
        (("agent.augment.noise=-1",), r"agent\.augment\.noise=-1"),
        (("agent.augment.shift=1.5",), r"agent\.augment\.shift=1\.5"),
        (("agent.augment.shfit=1",), r"shfit.*shift"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        training(*words)
    assert "\n" not in str(refused.value)
