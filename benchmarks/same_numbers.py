"""Whether a change of the code changes a number: short runs before and after, bit for bit.

    python benchmarks/same_numbers.py run before      # on the old commit
    python benchmarks/same_numbers.py run after       # on the new one, on the same machine
    python benchmarks/same_numbers.py compare before after

A folder has, for each run, metrics.jsonl without `time/...` and a hash of the final weights. The
hash does not depend on the names of the parameters, so that they may change. Last bits depend on
the processor: folders of two machines do not compare, and none is committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from neuraxis.training.storage import checkpoint_folder

CASES: dict[str, list[str]] = yaml.safe_load(
    """
ppo_mlp: [agent=ppo, total_steps=8192, agent.learning_rate_schedule=linear]
ppo_compiled: [agent=ppo, total_steps=4096, compile=true]
ppo_lstm: [agent=ppo, network=lstm, env.mask_velocity=true, total_steps=6144]
ppo_cnn: [agent=ppo, network=cnn, env=MiniGrid-Empty-5x5-v0, network.blocks.0.architecture=small,
  total_steps=2048, agent.ent_coef=0.01]
ppo_transformer: [agent=ppo, network=transformer, total_steps=4096, agent.sequence_length=32]
ppo_batch_norm: [agent=ppo, network.blocks.0.norm=batch, total_steps=4096]
ppo_dropout_pendulum: [agent=ppo, env=Pendulum-v1, network.blocks.0.dropout=0.1, total_steps=4096,
  agent.normalize_rewards=true]
ppo_ray: [agent=ppo, total_steps=4096, ray.workers=2]
ppo_two_learners: [agent=ppo, total_steps=4096, learner.count=2]
dqn: [agent=dqn, total_steps=3000]
dqn_prioritized: [agent=dqn, total_steps=3000, agent.prioritized=true, agent.n_step=3]
dqn_lstm: [agent=dqn, network=lstm, total_steps=640, agent.learning_starts=320, agent.burn_in=8,
  agent.prioritized=true, agent.sequence_length=16, agent.gradient_steps=8]
dqn_noisy: [agent=dqn, total_steps=3000, agent.noisy=true]
impala_ray: [agent=impala, total_steps=8192, ray.workers=2]
appo_lstm: [agent=appo, network=lstm, total_steps=4096]
"""
)
COMMON = ("wandb.mode=disabled", "device=cpu", "seed=3", "log_interval_steps=500", "num_envs=8")
EVALUATION = ("eval.interval_steps=0", "eval.final_episodes=4")


def weights_hash(checkpoint: Path) -> str:
    """Hash of the policy's tensors in a checkpoint, whatever they are called."""
    with safe_open(checkpoint / "state.safetensors", framework="np") as arrays:
        names = [name for name in arrays.keys() if name.startswith("agent/policy/")]
        parts = sorted(arrays.get_tensor(name).tobytes() for name in names)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def run(name: str, out: Path) -> None:
    """Trains one case and keeps its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "run")
        program = str(Path(sys.executable).parent / "neuraxis")
        default = [] if any("compile=" in word for word in CASES[name]) else ["compile=false"]
        words = [*CASES[name], *default, *COMMON, *EVALUATION, f"run_dir={place}"]
        subprocess.run([program, "train", "-q", *words], check=True)
        rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
        numbers = {"weights": weights_hash(checkpoint_folder.chosen(place / "checkpoints", "last"))}
        (out / f"{name}.json").write_text(json.dumps({**numbers, "rows": kept}, indent=1) + "\n")


def difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Where two runs part first; None if they are equal."""
    for old, new in zip(before["rows"], after["rows"], strict=False):
        for key in old:  # a metric that is new changes no number
            if old.get(key) != new.get(key):
                return f"{key} at step {old.get('steps')}: {old.get(key)} before, {new.get(key)}"
    if len(before["rows"]) != len(after["rows"]):
        return f"{len(before['rows'])} rows before, {len(after['rows'])}"
    return None if before["weights"] == after["weights"] else "final weights"


def main() -> int:
    """Runs the cases, or compares two folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    running = commands.add_parser("run", help="train the cases and keep their numbers in a folder")
    running.add_argument("out", type=Path)
    running.add_argument("--only", default="", help="cases whose name contains this")
    comparing = commands.add_parser(
        "compare", help="say of each case whether its numbers are equal"
    )
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.command == "run":
        args.out.mkdir(parents=True, exist_ok=True)
        for name in (name for name in CASES if args.only in name):
            run(name, args.out)
            print(f"{name}: done", flush=True)
        return 0
    failed = 0
    for file in sorted(args.after.glob("*.json")):
        old, new = (
            json.loads((folder / file.name).read_text()) for folder in (args.before, args.after)
        )
        found = difference(old, new)
        failed += found is not None
        print(f"{file.stem}: {found or 'equal'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
