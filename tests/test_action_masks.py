"""Action masks: where they come from, what is refused, and that nothing but choices sees them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from neuraxis.core.action_mask import ActionMask
from neuraxis.core.space_trees import from_tree, to_tree
from neuraxis.envs import EnvConfig, EnvError, Envs, make

from .helpers import training


class Legal(gymnasium.Env[Any, Any]):
    """Four steps; gives the masks that it was made with, one after the other, None for no mask."""

    def __init__(
        self, masks: Any = ((1, 0, 1),), action: Any = None, obs: Any = None, ends: bool = True
    ) -> None:
        self.action_space = spaces.Discrete(3) if action is None else action
        self.observation_space = obs or spaces.Box(0, 9, (2,), np.float32)
        self._masks, self._ends = masks, ends

    def _row(self) -> tuple[Any, dict[str, Any]]:
        mask = self._masks[min(self._count, len(self._masks) - 1)]
        obs = np.full(2, self._count, np.float32)
        if isinstance(self.observation_space, spaces.Dict):
            return {"legal": mask, "seen": obs}, {}
        return obs, {} if mask is None else {"action_mask": mask}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._count = 0
        return self._row()

    def step(self, action: Any) -> Any:
        self._count += 1
        obs, info = self._row()
        over = self._count == 4
        return obs, 0.0, over and self._ends, over and not self._ends, info


class LegalVector(VectorEnv[Any, Any, Any]):
    """As `Legal`, for a batch: column i forbids action (count + i) mod 3."""

    def __init__(self, num_envs: int = 1, stuck_at: int = -1, **kwargs: Any) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs, self._stuck_at = num_envs, stuck_at
        self.single_action_space = spaces.Discrete(3)
        self.single_observation_space = spaces.Box(0, 9, (2,), np.float32)
        self.action_space = self.observation_space = spaces.Discrete(3)

    def _row(self) -> Any:
        obs = np.repeat(self._count[:, None].astype(np.float32), 2, 1)
        mask = (self._count[:, None] + np.arange(self.num_envs)[:, None]) % 3 != np.arange(3)
        mask[self._count == self._stuck_at] = False
        return obs, {"action_mask": mask, "_action_mask": np.ones(self.num_envs, bool)}

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._count = np.zeros(self.num_envs, np.int64)
        return self._row()

    def step(self, actions: Any) -> Any:
        self._count = (self._count + 1) % 5
        obs, info = self._row()
        return obs, np.zeros(self.num_envs), self._count == 4, self._count == 9, info


def register(env_id: str, entry: Any, vector: Any = None) -> None:
    gymnasium.register(env_id, entry, vector_entry_point=vector)


register("Legal-v0", Legal)
register("LegalVector-v0", Legal, LegalVector)
NESTED = spaces.Dict(
    {"legal": spaces.Box(0, 1, (3,), np.int8), "seen": spaces.Box(0, 9, (2,), np.float32)}
)


def legal(mask: str = "info", num_envs: int = 1, **settings: Any) -> Envs:
    """The environment `Legal` with these arguments, or those of `EnvConfig`."""
    fields = {key: settings.pop(key) for key in [*settings] if key in EnvConfig.model_fields}
    config = EnvConfig(**{"id": "Legal-v0", "action_mask": mask, "kwargs": settings} | fields)
    return make(config, num_envs, 0)


@pytest.mark.parametrize(
    ("mask", "action"),
    [
        ([True, False, True], None),
        (np.array([1, 0, 1], np.int8), None),
        (np.array([1.0, 0.0, 1.0]), None),
        ((True, False, True), None),
        ((np.array([1, 0], np.int8), np.array([1], np.int8)), spaces.MultiDiscrete([2, 1])),
        (np.array([1, 0, 1, 1], bool), spaces.MultiBinary(2)),
    ],
)
def test_the_mask_of_info_becomes_a_part_of_the_observation(mask: Any, action: Any) -> None:
    envs = legal(masks=(mask,), action=action)
    size = 4 if isinstance(action, spaces.MultiBinary) else 3
    expected = [1, 0, 1, 1][:size]
    obs = envs.reset()
    assert obs["action_mask"].tolist() == [expected] and obs["action_mask"].dtype == np.int8
    assert obs["observation"].tolist() == [[0.0, 0.0]]
    obs, *_ = envs.step(np.asarray(envs.action_space.sample())[None])
    assert obs["action_mask"].tolist() == [expected] and obs["observation"].tolist() == [[1, 1]]
    assert isinstance(envs.observation_space, spaces.Dict)
    assert isinstance(envs.observation_space["action_mask"], ActionMask)


def test_a_key_of_the_observation_is_the_mask() -> None:
    envs = legal("legal", masks=(np.array([0, 1, 1], np.int8),), obs=NESTED)
    obs = envs.reset()
    assert {key: leaf.tolist() for key, leaf in obs.items()} == {
        "legal": [[0, 1, 1]],
        "seen": [[0, 0]],
    }
    assert isinstance(envs.observation_space, spaces.Dict)
    assert isinstance(envs.observation_space["legal"], ActionMask)


def test_a_mask_of_info_joins_the_keys_of_a_dict() -> None:
    class Both(Legal):
        def _row(self) -> Any:
            return super()._row()[0], {"action_mask": [1, 1, 0]}

    register("Both-v0", Both)
    envs = legal(id="Both-v0", masks=(np.array([0, 1, 1], np.int8),), obs=NESTED)
    assert envs.reset()["action_mask"].tolist() == [[1, 1, 0]]
    assert isinstance(envs.observation_space, spaces.Dict)
    assert [*envs.observation_space] == ["action_mask", "legal", "seen"]


@pytest.mark.parametrize("ends", [True, False])
def test_a_mask_belongs_to_its_observation(ends: bool) -> None:
    """At the last observation no action is taken: its mask may be missing, or forbid everything."""
    for last in (None, [0, 0, 0]):
        masks = ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], last)
        envs = legal(masks=masks, ends=ends)
        rows = [envs.reset(), *(envs.step(np.zeros(1, np.int64))[0] for _ in range(6))]
        found = [row["action_mask"][0].tolist() for row in rows]
        assert found == [*masks[:4], [1, 1, 1], *masks[:2]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": ([1, 0, 1], [0, 0, 0])}, r"Legal-v0, column 0, seed \d+, step 1: .*allows no"),
        (
            {"masks": ([1, 0, 1], None)},
            "step 1: .*there is no info.'action_mask'. .env.action_mask",
        ),
        ({"masks": (None,)}, "reset: .*there is no info.'action_mask'."),
        ({"masks": ([1, 0],)}, r"of shape \(2,\) and dtype int64; expected shape \(3,\)"),
        ({"masks": ([[1, 0, 1]],)}, r"of shape \(1, 3\)"),
        ({"masks": ([1, 0, 2],)}, "has 2; expected 0 or 1"),
        ({"masks": ([1, 0, -np.inf],)}, "has -inf; expected 0 or 1"),
        ({"masks": ("101",)}, "dtype <U3; expected shape"),
        (
            {"masks": ([1, 1, 0, 0],), "action": spaces.MultiDiscrete([2, 2])},
            "allows no action; expected at least one",
        ),
    ],
)
def test_a_wrong_mask_ends_the_run_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message) as caught:
        envs = legal(**settings)
        envs.reset()
        envs.step(np.zeros((1, *(envs.action_space.shape or ())), np.int64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "settings", "message"),
    [
        ("info", {"id": "Pendulum-v1"}, "Pendulum-v1 has the actions Box.*only choices"),
        ("legl", {"obs": NESTED}, "no such key; did you mean legal?.*keys are legal, seen"),
        ("legal", {}, "no such key .it is Box"),
        ("seen", {"obs": NESTED}, r"observation\['seen'\] of Legal-v0 is Box.*MultiBinary\(3\)"),
        (
            "legal",
            {"obs": spaces.Dict({"legal": spaces.Discrete(3), "seen": spaces.Discrete(2)})},
            r"observation\['legal'\] of Legal-v0 is Discrete\(3\); expected 3 numbers",
        ),
        (
            "info",
            {"obs": spaces.Dict({"action_mask": spaces.MultiBinary(3)})},
            "has a key 'action_mask' itself; env.action_mask=action_mask takes that one",
        ),
    ],
)
def test_a_setting_without_sense_is_refused(
    mask: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        legal(mask, **settings)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("env.action_mask=")


def test_a_vector_environment_gives_masks_for_the_batch() -> None:
    config = EnvConfig(id="LegalVector-v0", action_mask="info", vectorization="native")
    envs = make(config, 4, 0)
    assert type(envs).__name__ == "NativeEnvs"
    rows = [envs.reset(), *(envs.step(np.zeros(4, np.int64))[0] for _ in range(6))]
    for t, row in enumerate(rows):
        for column, mask in enumerate(row["action_mask"]):
            assert np.argmin(mask) == (t % 5 + column) % 3 and mask.sum() == 2
        assert (row["observation"] == t % 5).all()


def test_a_vector_environment_that_forbids_everything_is_named() -> None:
    config = EnvConfig(id="LegalVector-v0", action_mask="info", vectorization="native")
    envs = make(config.model_copy(update={"kwargs": {"stuck_at": 4}}), 2, 0)
    envs.reset()
    rows = [envs.step(np.zeros(2, np.int64))[0] for _ in range(4)]  # the last one ends the episode
    assert rows[-1]["action_mask"].all()
    envs = make(config.model_copy(update={"kwargs": {"stuck_at": 2}}), 2, 0)
    envs.reset()
    envs.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match=r"columns 0 to 1, .*step 2: .*allows no action in row 0"):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize(("in_observation", "mask"), [(False, "info"), (True, "legal")])
@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 2),
        ({"frame_stack": 3}, 6),
        ({"flatten": True}, 2),
        ({"frame_stack": 3, "flatten": True}, 6),
    ],
)
def test_what_changes_observations_leaves_the_mask_alone(
    settings: dict[str, Any], size: int, in_observation: bool, mask: str
) -> None:
    """The masks with the setting are those without it."""
    kwargs = {"in_observation": in_observation, "action_space": "multidiscrete"}
    config = EnvConfig(id="neuraxis/Masked-v0", action_mask=mask, kwargs=kwargs)
    found: list[list[Any]] = []
    for changes in ({}, settings, {**settings, "last_action": True}):
        envs = make(config.model_copy(update=changes), 2, 0)
        obs, masks = envs.reset(), []
        for _ in range(12):
            obs = obs["observation"] if "last_action" in obs else obs
            masks.append(obs["action_mask" if mask == "info" else "legal"])
            starts = [0, 5, 9, 13]
            best = [np.argmax(np.split(masks[-1], starts[1:], 1)[i], 1) for i in range(4)]
            obs, *_ = envs.step(np.stack(best, 1))
        found.append(masks)
    for masks in found[1:]:
        assert np.array_equal(found[0], masks)
    run = training("agent=ppo", "num_envs=2", *words(config, settings))
    assert run.agent.policy.actor.encoder.out_size == size


def words(config: EnvConfig, changes: dict[str, Any]) -> list[str]:
    """An environment as words of the command line."""
    kwargs = [f"env.kwargs.{key}={value}" for key, value in config.kwargs.items()]
    changed = [f"env.{key}={value}" for key, value in changes.items()]
    return [f"env={config.id}", f"env.action_mask={config.action_mask}", *kwargs, *changed]


def test_statistics_and_networks_do_not_see_the_mask() -> None:
    """`agent.normalize_observations` has no part for it, and the weights are as without it."""
    env = ("env=Legal-v0", "agent.normalize_observations=true", "num_envs=2")
    plain, masked = training(*env), training(*env, "env.action_mask=info")
    state = masked.agent.policy.state_dict()
    assert {k: v.shape for k, v in plain.agent.policy.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    masked.step()
    assert masked.agent.policy.normalizer.count > 0


def test_a_checkpoint_knows_the_mask() -> None:
    space = spaces.Dict({"a": ActionMask(3), "b": spaces.MultiBinary(3)})
    again = from_tree(to_tree(space))
    assert isinstance(again, spaces.Dict)
    assert isinstance(again["a"], ActionMask) and not isinstance(again["b"], ActionMask)
