"""Whether ONNX files act as `predict` does in real episodes, and how long a call takes.

    python benchmarks/onnx_parity.py

Each case is trained for a moment and exported. Then `predict` plays STEPS steps, and the file sees
the same observations with a memory of its own. Latency is CPU time of a call for one environment on
one thread, which other programs on the machine change little. It is a median of turns: `predict`,
the file with ONNX Runtime, and the `predict` of a Stable-Baselines3 model of the same sizes. The
table goes to `benchmarks/results/onnx.md`.
"""

from __future__ import annotations

import importlib.metadata
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
import torch

from neuraxis.agents.policies.policy import Policy
from neuraxis.envs import ids
from neuraxis.envs.single import make_single
from neuraxis.envs.wrappers.interface import Interface
from neuraxis.training import load, train
from neuraxis.training.interop.onnx_files.onnx_check import OnnxPolicy
from neuraxis.training.interop.onnx_files.onnx_export import write_onnx

RESULTS = Path(__file__).parent / "results" / "onnx.md"
STEPS, ROUNDS, CALLS = 1_000, 20, 50
SHORT = "wandb.mode=disabled", "eval.final_episodes=1", "eval.interval_steps=0", "compile=false"
LSTM = {"lstm_hidden_size": 64, "enable_critic_lstm": False, "shared_lstm": True, "net_arch": [64]}
CASES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "mlp 64, 64: CartPole": (("env=CartPole-v1", "network=mlp"), "MlpPolicy"),
    "mlp 64, 64: Pendulum, normalised, scaled": (
        ("env=Pendulum-v1", "network=mlp", "agent.normalize_observations=true"),
        "MlpPolicy",
    ),
    "cnn (Nature): CarRacing": (
        ("env=CarRacing-v3", "network=cnn", "env.time_limit=250", "num_envs=2", "agent.n_steps=64"),
        "CnnPolicy",
    ),
    "mlp 64, lstm 64: Pendulum without velocity": (
        ("env=pendulum_masked", "network=lstm"),
        "MlpLstmPolicy",
    ),
    "mlp 64, gru 64: Pendulum, last action": (
        ("env=Pendulum-v1", "network=gru", "env.last_action=true"),
        None,
    ),
    "mlp 64, transformer 64: Pendulum without velocity": (
        ("env=pendulum_masked", "network=transformer"),
        None,
    ),
    "dqn, mlp 64, 64, masks: Taxi": (("env=Taxi-v4", "env.action_mask=info", "agent=dqn"), None),
}


class Played(NamedTuple):
    """One step of `predict`; one row a column."""

    obs: Any
    first: np.ndarray
    more: dict[str, Any]
    action: np.ndarray


def play(policy: Policy, steps: int) -> list[Played]:
    """Plays real episodes by `predict`."""
    assert isinstance(policy.interface, Interface)
    config = policy.interface.config
    env = make_single(config, ids.find(config), None)
    (obs, info), state, gained, played = env.reset(seed=0), None, 0.0, []
    for _ in range(steps):
        rows, more = policy.interface.rows(obs)[0], {}
        if config.action_mask == "info":
            more["action_mask"] = np.asarray(info["action_mask"], np.int8)[None]
        if config.last_action:
            more["reward"] = np.array([gained], np.float32)
        first = np.array([state is None])
        action, state = policy.predict(rows, state, first, **more)
        played.append(Played(rows, first, more, action))
        obs, gained, terminated, truncated, info = env.step(action[0])
        if terminated or truncated:
            (obs, info), state = env.reset(), None
    return played


class Spaces(gymnasium.Env[Any, Any]):
    """What a model of Stable-Baselines3 asks of an environment when it is built."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space


def sides(policy: Policy, content: bytes, kind: str | None) -> dict[str, Callable[[Played], Any]]:
    """What is timed: each takes one step, and keeps its own memory."""
    onnx, memory = OnnxPolicy(content), dict[str, Any]()

    def ours(step: Played) -> None:
        _, memory["ours"] = policy.predict(step.obs, memory.get("ours"), step.first, **step.more)

    found = {"ours": ours, "onnx": lambda step: onnx(step.obs, step.first, **step.more)}
    if kind is None:
        return found
    assert policy.interface is not None
    env: Any = Spaces(*policy.interface.spaces)
    if kind == "MlpLstmPolicy":
        model: Any = sb3_contrib.RecurrentPPO(kind, env, policy_kwargs=LSTM, device="cpu")
    else:
        model = stable_baselines3.PPO(kind, env, device="cpu")

    def sb3(step: Played) -> None:
        more = (memory.get("sb3"), step.first) if kind == "MlpLstmPolicy" else ()
        _, memory["sb3"] = model.predict(step.obs, *more, deterministic=True)

    return found | {"sb3": sb3}


def latencies(policy: Policy, content: bytes, kind: str | None, played: list[Played]) -> list[str]:
    """The median CPU microseconds of a call of each side, and `-` for one that there is not."""
    calls, times = sides(policy, content, kind), {name: [] for name in ("ours", "onnx", "sb3")}
    for turn in range(ROUNDS):
        steps = played[turn * CALLS : (turn + 1) * CALLS]
        for name, call in calls.items():
            before = time.process_time()
            for step in steps:
                call(step)
            times[name].append(1e6 * (time.process_time() - before) / CALLS)
    return [f"{statistics.median(found):,.0f}" if found else "-" for found in times.values()]


def row(case: str) -> str:
    """Trains, exports, compares and times one case."""
    words, kind = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        run = train(*words, *SHORT, total_steps=2_000, run_dir=f"{folder}/run")
        policy, file = load(run.dir, "last"), Path(folder, "policy.onnx")
        write_onnx(policy, file)
        content = file.read_bytes()
    torch.set_num_threads(1)  # training has set it, too
    played, onnx = play(policy, STEPS), OnnxPolicy(content)
    actions = np.concatenate([onnx(step.obs, step.first, **step.more) for step in played])
    wanted = np.concatenate([step.action for step in played])
    gap = np.abs(actions.astype(np.float64) - wanted).reshape(STEPS, -1).max(1)
    other = int((gap > 0).sum()) if wanted.dtype.kind != "f" else "-"
    distinct = len(np.unique(wanted, axis=0))
    episodes = sum(int(step.first[0]) for step in played)
    times = latencies(policy, content, kind, played)
    cells = f"{episodes} | {distinct:,} | {gap.max():.2g} | {other} | {len(content) / 1_000:,.0f}"
    return f"| {case} | {cells} | {' | '.join(times)} |"


def main() -> None:
    """Measures all cases and writes the table."""
    rows = []
    for case in CASES:
        rows.append(row(case))
        print(rows[-1], flush=True)
    names = "neuraxis", "torch", "onnx", "onnxruntime", "onnxscript", "stable-baselines3"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    text = f"""# ONNX files against `predict`

{STEPS:,} steps of real episodes a case: how many different actions there were, the largest
difference between two numbers of an action, and how many choices differ. Then the size of the file,
and CPU microseconds of one call for one environment on one thread: medians of {ROUNDS} turns of
{CALLS} calls, in which the sides take turns. Stable-Baselines3's models are PPO (with the LSTM,
RecurrentPPO) of the same sizes, without normalisation.

| network, task | episodes | actions | difference | other choices | kB | `predict` | ONNX | SB3 |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""
    text += "\n".join(rows) + "\n\n"
    text += f"`python benchmarks/onnx_parity.py`, {versions}, {os.cpu_count()} cores, load average "
    RESULTS.write_text(text + f"at the end {os.getloadavg()[1]:.0f}.\n", encoding="utf-8")


if __name__ == "__main__":
    main()
