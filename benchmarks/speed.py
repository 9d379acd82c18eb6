"""Training speed against Stable-Baselines3: env steps per CPU-second, sides in turn, medians.

    make bench                                         # all cases, five rounds each
    python benchmarks/speed.py --only ppo_cartpole_zoo --rounds 3

Both sides have the same hyper-parameters, network, environment and one thread; each turn is a
process of its own, which warms up (imports, compilation, first rollouts) before its CPU seconds
are counted. The share of the arithmetic limit is the time that the products alone would take at
this core's `torch.mm` peak over the time taken. The table goes to `benchmarks/results/speed.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SIDES = ("sb3", "plain", "compiled")
NAMES = ("model name", "flags")  # of /proc/cpuinfo
CARTPOLE = ("env=CartPole-v1", "num_envs=8", "agent=ppo", "agent.learning_rate=1e-3")
CASES: dict[str, dict[str, Any]] = {
    "ppo_cartpole_zoo": {
        "what": "PPO CartPole, rl-zoo's numbers (8 envs x 32, batch 256, 20 epochs)",
        "words": (*CARTPOLE, "agent.n_steps=32", "agent.batch_size=256", "agent.n_epochs=20"),
        "steps": (4_000, 20_000),
        "bars": {"plain": 2.5, "compiled": 4.0},
    },
    "ppo_cartpole_128": {
        "what": "PPO CartPole, 8 envs x 128, batch 256, 4 epochs",
        "words": (*CARTPOLE, "agent.n_steps=128", "agent.batch_size=256", "agent.n_epochs=4"),
        "steps": (6_000, 40_000),
        "bars": {"plain": 2.5, "compiled": 4.0},
    },
    "dqn_cartpole_zoo": {
        "what": "DQN CartPole, rl-zoo's numbers (1 env, 256x256, 128 updates every 256 steps)",
        "words": (
            *("env=CartPole-v1", "num_envs=1", "agent=dqn", "agent.double=false"),
            "env.vectorization=sync",  # the very environment of the other side
            *("network.blocks.0.sizes=[256,256]", "network.blocks.0.activation=relu"),
            *("agent.train_freq=256", "agent.gradient_steps=128", "agent.batch_size=64"),
            *("agent.learning_rate=2.3e-3", "agent.target_update_interval=10"),
            *("agent.exploration_fraction=0.16", "agent.exploration_final_eps=0.04"),
        ),
        "steps": (2_000, 8_000),
        "bars": {"plain": 2.0, "compiled": 3.0},
    },
    "ppo_lstm_cartpole": {
        "what": "PPO-LSTM, masked CartPole, 8 envs x 128, LSTM 64 + layer 64, 10 epochs (contrib)",
        "words": (
            *(*CARTPOLE, "env.mask_velocity=true", "agent.n_steps=128", "agent.batch_size=128"),
            *("network.blocks=[{name: lstm, size: 64}, {name: mlp, sizes: [64]}]",),
            *("network.shared=false", "agent.n_epochs=10"),
        ),
        "steps": (2_048, 8_192),
        "sides": ("sb3", "plain"),
        "bars": {"plain": 4.0},
    },
    "ppo_pong": {
        "what": "PPO Pong, Nature CNN, 8 envs x 128, batch 256, 4 epochs",
        "words": (
            *("env=atari", "network=cnn", "num_envs=8", "agent=ppo", "agent.n_steps=128"),
            *("agent.batch_size=256", "agent.n_epochs=4", "agent.learning_rate=2.5e-4"),
        ),
        "steps": (1_024, 3_072),
        "bars": {"plain": 1.4, "compiled": 1.4},
    },
}


def ours(case: dict[str, Any], compiled: bool) -> dict[str, float]:
    """Trains with neuraxis."""
    from neuraxis.configs import load
    from neuraxis.training import prepare

    warm, total = case["steps"]
    with tempfile.TemporaryDirectory() as folder:
        words = (
            *(*case["words"], f"run_dir={folder}", "wandb.mode=disabled", f"total_steps={total}"),
            *("eval.interval_steps=0", "checkpoint.interval_steps=0", "eval.final_episodes=1"),
            *(f"compile={str(compiled).lower()}", "log_interval_steps=1000000"),
        )
        session = prepare(load(words))
        marks: list[tuple[int, float, float]] = []

        def mark(run: Any) -> None:
            if run.steps >= warm:
                marks.append((run.steps, time.process_time(), time.perf_counter()))

        session.run(mark)
    return _rates(marks[0], marks[-1])


def theirs(name: str, case: dict[str, Any]) -> dict[str, float]:
    """Trains with Stable-Baselines3 (sb3-contrib for the LSTM)."""
    import torch

    torch.set_num_threads(1)
    model = _sb3_model(name)
    warm, total = case["steps"]
    model.learn(warm)
    begin = (model.num_timesteps, time.process_time(), time.perf_counter())
    model.learn(total - warm, reset_num_timesteps=False)
    return _rates(begin, (model.num_timesteps, time.process_time(), time.perf_counter()))


def _sb3_model(name: str) -> Any:
    import gymnasium
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from torch import nn

    rollout: dict[str, Any] = {
        "ppo_cartpole_zoo": {"n_steps": 32, "batch_size": 256, "n_epochs": 20},
        "ppo_cartpole_128": {"n_steps": 128, "batch_size": 256, "n_epochs": 4},
        "ppo_lstm_cartpole": {"n_steps": 128, "batch_size": 128, "n_epochs": 10},
        "ppo_pong": {"n_steps": 128, "batch_size": 256, "n_epochs": 4},
    }.get(name, {})
    if name.startswith("ppo_cartpole"):
        env = make_vec_env("CartPole-v1", 8)
        return sb3.PPO("MlpPolicy", env, learning_rate=1e-3, device="cpu", **rollout)
    if name == "dqn_cartpole_zoo":
        return sb3.DQN(
            "MlpPolicy",
            make_vec_env("CartPole-v1", 1),
            learning_rate=2.3e-3,
            batch_size=64,
            buffer_size=100_000,
            learning_starts=1_000,
            target_update_interval=10,
            train_freq=256,
            gradient_steps=128,
            exploration_fraction=0.16,
            exploration_final_eps=0.04,
            policy_kwargs={"net_arch": [256, 256], "activation_fn": nn.ReLU},
            device="cpu",
        )
    if name == "ppo_lstm_cartpole":
        from sb3_contrib import RecurrentPPO

        class Masked(gymnasium.ObservationWrapper):
            """CartPole without velocities."""

            def __init__(self, env: gymnasium.Env) -> None:
                super().__init__(env)
                box: Any = env.observation_space
                self.observation_space = gymnasium.spaces.Box(box.low[[0, 2]], box.high[[0, 2]])

            def observation(self, observation: Any) -> Any:
                return observation[[0, 2]]

        kwargs = {"lstm_hidden_size": 64, "net_arch": [64]}
        env = make_vec_env("CartPole-v1", 8, wrapper_class=Masked)
        return RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=kwargs, device="cpu", **rollout)
    import ale_py

    gymnasium.register_envs(ale_py)
    env = make_atari_env("ALE/Pong-v5", 8, env_kwargs={"frameskip": 1})
    from stable_baselines3.common.vec_env import VecFrameStack

    return sb3.PPO(
        "CnnPolicy", VecFrameStack(env, 4), learning_rate=2.5e-4, device="cpu", **rollout
    )


def _rates(begin: tuple[int, float, float], end: tuple[int, float, float]) -> dict[str, float]:
    steps, cpu, wall = (after - before for before, after in zip(begin, end, strict=True))
    return {"cpu": steps / cpu, "wall": steps / wall}


def limit(case: dict[str, Any]) -> float:
    """Env steps per second if nothing but the products took time, at this core's peak."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from neuraxis.configs import load
    from neuraxis.training import prepare

    torch.set_num_threads(1)
    a = torch.randn(512, 512)
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        _ = a @ a
        seconds.append(time.perf_counter() - begin)
    peak = 2 * 512**3 / min(seconds)
    with tempfile.TemporaryDirectory() as folder:
        words = (*case["words"], f"run_dir={folder}", "wandb.mode=disabled", "compile=false")
        session = prepare(load([*words, "total_steps=1000000"]))
        if "agent=dqn" in case["words"]:  # past learning_starts
            for _ in range(5):
                session.agent.learn(session.source.next().to("cpu"))
        with FlopCounterMode(display=False) as counter:
            rollout = session.source.next()
            session.agent.learn(rollout.to("cpu"))
        return rollout.steps * peak / counter.get_total_flops()


def child(arguments: list[str], env: dict[str, str]) -> dict[str, float]:
    """Runs one measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(names: list[str], rounds: int) -> list[dict[str, Any]]:
    """Takes the sides in turn, `rounds` times; returns a row for each case and side."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    rows = []
    for name in names:
        case = CASES[name]
        sides = case.get("sides", SIDES)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(rounds):
            for side in sides:
                found[side].append(child([name, side], env))
                print(
                    f"{name} {number + 1}/{rounds} {side}: {found[side][-1]['cpu']:.0f}", flush=True
                )
        most = child([name, "limit"], env)["cpu"] if "lstm" not in name else None
        for side in sides:
            cpu = statistics.median(rate["cpu"] for rate in found[side])
            wall = statistics.median(rate["wall"] for rate in found[side])
            pairs = zip(found[side], found["sb3"], strict=True)
            ratio = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs)
            rows.append(
                {"case": name, "side": side, "cpu": cpu, "wall": wall, "ratio": ratio}
                | {"bar": case["bars"].get(side), "limit": most and cpu / most}
            )
    return rows


def cpu() -> str:
    """What the processor says that it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    name, flags = (" ".join(fields[key].split()) for key in fields if key.strip() in NAMES)
    widest = next((w for w in ("avx512f", "avx2", "avx") if w in flags.split()), "no AVX")
    return f"{name}, {widest}"


def memory() -> float:
    """Peak resident MiB of a whole CartPole run from the command line, W&B offline."""
    with tempfile.TemporaryDirectory() as folder:
        program = [
            str(Path(sys.executable).parent / "neuraxis"),
            "train",
            "-q",
            "total_steps=20000",
        ]
        process = subprocess.Popen([*program, f"run_dir={folder}/run"])
        return os.wait4(process.pid, 0)[2].ru_maxrss / 1024


def write(rows: list[dict[str, Any]], peak_memory: float, rounds: int) -> None:
    """Writes the table."""
    import stable_baselines3
    import torch

    lines = [
        "# Speed against Stable-Baselines3",
        "",
        "Env steps per CPU-second, medians of interleaved turns; ratio: median over the rounds.",
        "",
        "| case | side | steps/CPU-s | steps/s | ratio | bar | of the arithmetic limit |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        share = "" if row["limit"] is None else f"{row['limit']:.2f}"
        lines.append(
            f"| {CASES[row['case']]['what']} | {row['side']} | {row['cpu']:,.0f} | "
            f"{row['wall']:,.0f} | {row['ratio']:.2f} | {bar} | {share} |"
        )
    lines += [
        "",
        f"Peak memory of a CartPole run, W&B offline: {peak_memory:.0f} MiB (bar 300).",
        "",
        f"`python benchmarks/speed.py --rounds {rounds}`, torch {torch.__version__}, "
        f"stable-baselines3 {stable_baselines3.__version__}, one thread, one core of two: {cpu()}.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.md").write_text("\n".join(lines))
    print("\n".join(lines))


def main() -> None:
    """Measures and writes the table, or is one of its turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is None:
        write(measure(options.only, options.rounds), memory(), options.rounds)
        return
    name, side = options.child
    if side == "limit":
        print(json.dumps({"cpu": limit(CASES[name])}))
    elif side == "sb3":
        print(json.dumps(theirs(name, CASES[name])))
    else:
        print(json.dumps(ours(CASES[name], side == "compiled")))


if __name__ == "__main__":
    main()
