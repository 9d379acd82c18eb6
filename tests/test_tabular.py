"""Tabular Q-learning and SARSA: by hand, and against exact value iteration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from neuraxis.agents.policies.table import Table
from neuraxis.agents.tabular_q import mean_in_cells
from neuraxis.core.action_mask import ActionMask
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import map_tree

from .helpers import Training, training
from .value_iteration import model_of

TABLES = ("tabular_q", "sarsa")
HALF = ("agent.learning_rate=0.5", "agent.gamma=0.5", "agent.n_steps=2")


def built(agent: str, *words: str) -> Training:
    """On FrozenLake: 16 observations, 4 actions."""
    return training(f"agent={agent}", "env=FrozenLake-v1", *HALF, *words)


def steps(
    row: list[Any], action: list[Any], reward: list[Any], discount: list[Any], first: list[Any]
) -> Rollout[Tensor]:
    """A rollout of these rows, each a list of columns."""
    reward_, discount_ = torch.tensor(reward).float(), torch.tensor(discount).float()
    return Rollout(
        obs=torch.tensor(row),
        first=torch.tensor(first).bool(),
        action=torch.tensor(action),
        reward=reward_,
        discount=discount_,
        extras={},
        state=(),
        columns=torch.arange(reward_.shape[1]),
        version=0,
        episodes=np.zeros((0, 3)),
    )


def cells(run: Training) -> Tensor:
    return run.agent.policy.cells


def test_q_learning_by_hand() -> None:
    """One column: two steps, then a termination, a reset, and a truncation."""
    run = built("tabular_q", "num_envs=1")
    q = cells(run)
    q[4] = torch.tensor([1.0, 3.0, 2.0, 0.0])
    first = [[True], [False], [False]]
    run.agent.learn(steps([[3], [4], [5]], [[1], [2]], [[1], [2]], [[1], [1]], first))
    assert q[3, 1] == 0.5 * (1 + 0.5 * 3)  # of the greatest value
    assert q[4, 2] == 2 + 0.5 * (2 + 0.5 * 0 - 2)  # then 2 of its own
    q[6] = 8.0
    ends = [[False], [False], [True]]  # the second step is the reset
    run.agent.learn(steps([[5], [6], [0]], [[0], [3]], [[4], [0]], [[0], [1]], ends))
    assert q[5, 0] == 0.5 * 4  # terminated: what row 6 has does not count
    assert q[6].eq(8.0).all() and q[0].eq(0.0).all()  # a reset is no step
    run.agent.learn(steps([[0], [6], [0]], [[2], [1]], [[1], [0]], [[1], [1]], ends))
    assert q[0, 2] == 0.5 * (1 + 0.5 * 8)  # cut: what row 6 has counts
    assert q[6].eq(8.0).all()


def test_each_step_sees_what_the_one_before_it_has_changed() -> None:
    run = built("tabular_q", "num_envs=1")
    first = [[True], [False], [False]]
    run.agent.learn(steps([[7], [7], [7]], [[1], [1]], [[2], [2]], [[1], [1]], first))
    once = 0.5 * 2
    assert cells(run)[7, 1] == once + 0.5 * (2 + 0.5 * once - once)


def test_columns_in_one_cell_take_the_mean_of_their_targets() -> None:
    """Of the same four steps in another order, the same table, to the last bit."""
    tables = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        run = built("tabular_q", "num_envs=4", "agent.n_steps=1")
        row = [[[3, 3, 9, 3][c] for c in order], [[1, 2, 3, 5][c] for c in order]]
        first = [[False] * 4, [[False, False, False, True][c] for c in order]]
        reward = [[[1.0, 6.0, 5.0, 99.0][c] for c in order]]
        run.agent.learn(steps(row, [[1] * 4], reward, [[1.0] * 4], first))
        tables.append(cells(run))
    assert tables[0][3, 1] == 0.5 * (1 + 6) / 2 and tables[0][9, 1] == 0.5 * 5
    assert tables[0].count_nonzero() == 2 and torch.equal(*tables)


def test_weights_of_means() -> None:
    valid = torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0]])
    weight = mean_in_cells(torch.tensor([[7, 7, 7, 2, 3]]), valid)[0]
    half = [0.5, 0.5, 0, 0, 0]
    assert weight.tolist() == [half, half, half, [0, 0, 0, 1, 0], [0] * 5]


def sarsa_stream(run: Training) -> None:
    """Three rollouts of one column; the greatest value is never that of the next action."""
    cells(run)[:, 3] = 64.0
    goes = [[False], [False], [False]]
    opens, resets = [[True], *goes[1:]], [[False], [False], [True]]
    run.agent.learn(steps([[3], [4], [5]], [[1], [2]], [[1], [2]], [[1], [1]], opens))
    run.agent.learn(steps([[5], [6], [7]], [[0], [1]], [[4], [8]], [[1], [1]], goes))
    # ends after row 8, which is a cut; then the reset, whose action does nothing
    run.agent.learn(steps([[7], [8], [0]], [[2], [1]], [[3], [0]], [[1], [1]], resets))
    # terminated after row 9
    run.agent.learn(steps([[0], [9], [1]], [[1], [3]], [[5], [0]], [[0], [1]], resets))


def test_sarsa_by_hand() -> None:
    """The target has the action that was taken next, also across rollouts and at a cut."""
    run = built("sarsa", "num_envs=1")
    q = cells(run)
    q[8, 1] = 10.0
    sarsa_stream(run)
    q[:, 3] = 0.0
    expected = torch.zeros(16, 4)
    expected[8, 1] = 10.0
    expected[3, 1] = 0.5 * (1 + 0.5 * 0)  # a' = 2, still 0
    expected[4, 2] = 0.5 * (2 + 0.5 * 0)  # a' = 0 of the next rollout
    expected[5, 0] = 0.5 * (4 + 0.5 * 0)
    expected[6, 1] = 0.5 * (8 + 0.5 * 0)
    expected[7, 2] = 0.5 * (3 + 0.5 * 10)  # a' = 1, chosen after row 8
    expected[0, 1] = 0.5 * 5  # terminated: a' = 3 of row 9 does not count
    assert torch.equal(q, expected)


def test_expected_sarsa_by_hand() -> None:
    """The mean over an epsilon-greedy policy; here epsilon is 0.2."""
    epsilon = ("agent.exploration_initial_eps=0.2", "agent.exploration_final_eps=0.2")
    run = built("sarsa", "num_envs=1", "agent.expected=true", *epsilon)
    run.agent.learn(steps([[3], [4], [5]], [[1], [2]], [[1], [2]], [[1], [1]], [[0], [0], [0]]))
    q = cells(run)
    assert q[3, 1] == 0.5  # all is 0 yet
    q[4] = torch.tensor([8.0, 0.0, 4.0, 0.0])
    q[5] = torch.tensor([1.0, 2.0, 3.0, 6.0])
    goes = [[0], [0], [0]]
    run.agent.learn(steps([[5], [4], [6]], [[0], [0]], [[1], [0]], [[1], [1]], goes))
    waited = 4 + 0.5 * (2 + 0.5 * (0.8 * 6 + 0.2 * (1 + 2 + 3 + 6) / 4) - 4)
    assert float(q[4, 2]) == pytest.approx(waited)
    mean = 0.8 * 8 + 0.2 * (8 + waited) / 4
    assert float(q[5, 0]) == pytest.approx(1 + 0.5 * (1 + 0.5 * mean - 1))


def test_a_column_that_was_opened_anew_forgets_the_step_that_waited() -> None:
    run = built("sarsa", "num_envs=2")
    goes = [[False, False]] * 3
    two = ([[1, 1], [1, 1]], [[1, 1], [2, 2]], [[1, 1], [1, 1]])
    run.agent.learn(steps([[3, 3], [4, 4], [5, 5]], *two, goes))
    opened = [[True, False], *goes[1:]]
    run.agent.learn(steps([[0, 5], [6, 6], [7, 7]], *two, opened))
    q = cells(run)
    assert q[4, 1] == 0.5 * 2  # of the second column alone, not of both
    run = built("sarsa", "num_envs=2")
    run.agent.learn(steps([[3, 3], [4, 4], [5, 5]], *two, goes))
    run.agent.learn(steps([[0, 0], [6, 6], [7, 7]], *two, [[True, True], *goes[1:]]))
    assert cells(run)[4, 1] == 0


@pytest.mark.parametrize("agent", TABLES)
def test_recorded_updates_are_the_plain_ones(agent: str) -> None:
    """While alpha and epsilon fall; 20 updates before the recording, and 10 with it."""
    tables, rates = [], []
    for execution in ("plain", "recorded"):
        words = ("agent.learning_rate_schedule=linear", "total_steps=800", "num_envs=4")
        run = built(agent, "env=CliffWalking-v1", "env.time_limit=9", *words, "compile=false")
        if execution == "plain":
            run.agent.run_update = run.agent.update
        else:
            assert run.agent.execution == execution
        rates.append([run.step()["train/learning_rate"] for _ in range(30)])
        tables.append(cells(run))
    assert torch.equal(tables[0], tables[1])
    assert tables[0].any() and rates[0] == rates[1] == sorted(rates[0], reverse=True)
    assert rates[0][0] == 0.5 > rates[0][-1] > 0.3


@pytest.mark.parametrize("agent", TABLES)
def test_the_exact_optimum_of_frozen_lake(agent: str) -> None:
    """And the rows of holes and of the goal, after which nothing comes, stay 0."""
    words = ("env.kwargs.is_slippery=false", "agent.gamma=0.9", "total_steps=16_000")
    run = built(agent, *words, "agent.exploration_fraction=0.9", "agent.exploration_final_eps=0")
    for _ in run.run():
        pass
    model = model_of("FrozenLake-v1", 0.9, is_slippery=False)
    q = cells(run)
    assert model.value(q.argmax(1).numpy()) == pytest.approx(0.9**5)
    if agent == "tabular_q":
        seen = q.numpy() != 0
        assert np.abs(q.numpy() - model.best())[seen].max() < 0.05
    ends = [5, 7, 11, 12, 15]
    assert not q[ends].any() and q.any()


def test_sarsa_learns_what_exploring_costs() -> None:
    """On the cliff, exploring for ever: the edge is not worth what Q-learning says."""
    words = ("env=CliffWalking-v1", "num_envs=8", "agent.gamma=1", "agent.learning_rate=0.2")
    eps = ("agent.exploration_fraction=0", "agent.exploration_final_eps=0.2")
    start = []
    for agent in TABLES:
        run = training(f"agent={agent}", *words, *eps, "total_steps=20_000", "env.time_limit=100")
        for _ in run.run():
            pass
        start.append(float(cells(run)[36].max()))
    assert start[1] < start[0] - 2


def test_values_above_all_returns_make_it_try_everything() -> None:
    """Without any other exploration."""
    eps = ("agent.exploration_initial_eps=0", "agent.exploration_final_eps=0")
    words = ("env=neuraxis/Identity-v0", "env.kwargs.size=6", "agent.gamma=0", *eps)
    scores = []
    for value in (0.0, 2.0):
        run = built("tabular_q", *words, f"agent.initial_value={value}", "total_steps=3_000")
        for _ in run.run():
            pass
        scores.append(run.score())
    assert scores[1] == 10.0 > scores[0]


OBSERVATIONS = spaces.Dict(
    {
        "cards": spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))),
        "dials": spaces.MultiDiscrete(np.array([[2, 3]])),
        "flags": spaces.MultiBinary(2),
    }
)


def test_each_observation_has_a_row_of_its_own() -> None:
    table = Table(OBSERVATIONS, spaces.MultiBinary(2))
    assert table.cells.shape == (3 * 2 * 6 * 4, 4)
    grid = torch.cartesian_prod(*(torch.arange(size) for size in (3, 2, 2, 3, 2, 2)))
    obs = {
        "cards": (grid[:, 0], grid[:, 1]),
        "dials": grid[:, None, 2:4],
        "flags": grid[:, 4:].to(torch.int8),
    }
    assert torch.equal(table.rows(obs), torch.arange(len(grid)))
    assert torch.equal(table.rows(map_tree(lambda x: x[None], obs))[0], torch.arange(len(grid)))
    q, _ = table(map_tree(lambda x: x[None], obs), (), torch.zeros(1, len(grid)).bool())
    assert q.shape == (1, len(grid), 4)


@pytest.mark.parametrize("agent", TABLES)
def test_blackjack_has_a_tuple(agent: str) -> None:
    run = built(agent, "env=Blackjack-v1")
    assert cells(run).shape == (32 * 11 * 2, 2)
    for _ in range(20):
        run.step()
    assert cells(run).count_nonzero() > 20


@pytest.mark.parametrize("words", [["tabular_q"], ["sarsa", "agent.expected=true"]])
def test_forbidden_actions_are_neither_taken_nor_hoped_for(words: list[str]) -> None:
    space = spaces.Dict({"action_mask": ActionMask(4), "observation": spaces.Discrete(16)})
    agent, *more = words
    run = built(agent, *more, "num_envs=1", "agent.exploration_final_eps=1")
    setup = replace(run.agent.setup, observation_space=space)
    learner: Any = type(run.agent)(run.cfg.agent, setup)
    learner.policy.cells[5] = torch.tensor([2.0, 4.0, 64.0, 64.0])
    mask = torch.tensor([[[1, 1, 1, 1]], [[1, 1, 0, 0]], [[1, 1, 1, 1]]])
    rollout = steps([[3], [5], [6]], [[1], [0]], [[1], [0]], [[1], [1]], [[0], [0], [0]])
    rollout = replace(rollout, obs={"action_mask": mask, "observation": rollout.obs})
    learner.learn(rollout)
    best = 4 if agent == "tabular_q" else (2 + 4) / 2  # epsilon is 1
    assert learner.policy.cells[3, 1] == 0.5 * (1 + 0.5 * best)
    seen = map_tree(lambda leaf: leaf[1].expand(100, *leaf.shape[2:]), rollout.obs)
    for greedy in (False, True):
        action, _, _ = learner.policy.act(seen, (), torch.zeros(100).bool(), greedy=greedy)
        assert set(action.tolist()) == ({1} if greedy else {0, 1})


@pytest.mark.parametrize("agent", TABLES)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("env=CartPole-v1",), r"observation space Box.*: a table has a row .* agent=dqn"),
        (("network=lstm",), r"network: agent=.* has none; expected no network= .* agent=dqn"),
        (("network.blocks.0.sizes=[8]",), r"network: agent=.* has none"),
        (("env=neuraxis/Dict-v0",), r"observation space Box.*a table has a row"),
    ],
)
def test_what_has_no_table_is_refused(agent: str, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        built(agent, *words)
    assert "\n" not in str(refused.value)


def test_a_table_has_a_limit() -> None:
    with pytest.raises(ValueError, match=r"4,194,304 observations and 3 actions.* 10,000,000"):
        Table(spaces.MultiBinary(22), spaces.Discrete(3))
    Table(spaces.MultiBinary(21), spaces.Discrete(4))


@pytest.mark.parametrize("agent", TABLES)
def test_it_says_that_there_is_no_network(agent: str) -> None:
    assert built(agent).agent.notes == (f"agent={agent} has a table, 16 x 4, and no network",)


def test_toy_environments_are_as_their_models_say() -> None:
    """So that the optimum that evidence is measured by is that of what was trained on."""
    model = model_of("CliffWalking-v1", 1.0)
    env = gymnasium.make("CliffWalking-v1")
    assert model.start[env.reset(seed=0)[0]] == 1.0
    assert model.best()[36].max() == pytest.approx(-13)
