"""Bad input, kind by kind: one line that says what and what is expected, and nothing left behind.

Exit code 2: refused before anything ran, no run folder. Exit code 1: it failed while running, the
last good checkpoint stays and no temporary file. `refused` lets a traceback through, as a failure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from neuraxis import load, train
from neuraxis.agents.ppo import PPO
from neuraxis.configs import load as load_config
from neuraxis.envs.drawing import DISPLAYS
from neuraxis.training.analysis import report
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.distributed import ray_cluster
from neuraxis.training.storage import checkpoint, checkpoint_folder

SMALL = "num_envs=2 total_steps=64 eval.final_episodes=1 wandb.mode=disabled".split()
HUGE = 10**14
DQN = "agent=dqn agent.learning_starts=9"
LATE = 20  # steps of an environment; its run has saved by then
FAULTY = LATE + 1 + LATE // 5  # the step of its column that fails: episodes have 5, and a reset

OBSERVATIONS: dict[str, spaces.Space[Any] | None] = {
    "text obs": spaces.Dict({"said": spaces.Tuple([spaces.Text(5)])}),
    "graph obs": spaces.Graph(spaces.Box(0, 1, (2,)), None),
    "no obs": None,
    "empty obs": spaces.Dict({}),
    "bytes": spaces.Box(0, 255, (3,), np.uint8),
}
ACTIONS: dict[str, spaces.Space[Any] | None] = {
    "dict action": spaces.Dict({"move": spaces.Discrete(2)}),
    "sequence action": spaces.Sequence(spaces.Discrete(2)),
    "matrix action": spaces.Box(-1, 1, (2, 2)),
    "no action": None,
}


class Broken(gymnasium.Env[Any, Any]):
    """Somebody's environment, with the fault that is asked for."""

    def __init__(self, fault: str = "", render_mode: str | None = None) -> None:
        self.fault = fault
        self.observation_space: Any = OBSERVATIONS.get(fault, spaces.Box(-1, 1, (3,)))
        self.action_space: Any = ACTIONS.get(fault, spaces.Discrete(2))
        self.steps = self.resets = 0
        self.fail_at("make")

    def fail_at(self, phase: str) -> None:
        if self.fault == phase:
            raise KeyError(f"sensor\nof {phase}")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.resets += 1
        self.fail_at("reset" if self.resets == 1 else "autoreset")
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        late = self.steps > LATE
        if late:
            self.fail_at("step")
        if late and self.fault == "exit":
            sys.exit("the window was closed")
        rewards = {"nan reward": np.nan, "inf reward": -np.inf, "text reward": "good"}
        reward = rewards.get(self.fault, 1.0) if late else 1.0
        result: Any = self.observe(), reward, False, self.steps % 5 == 0, {}
        return (*result[:3], {}) if late and self.fault == "four" else result  # as in OpenAI's Gym

    def observe(self) -> Any:
        late = self.steps > LATE
        if self.fault == "shape" or (late and self.fault == "late shape"):
            return np.zeros(1, np.float32)
        value = np.nan if late and self.fault == "nan obs" else 0.5
        return np.full(3, value, np.float32)

    def close(self) -> None:
        self.fail_at("close")


class Blind(Broken):
    """It says that it draws."""

    def __init__(self, fault: str = "", render_mode: str | None = None) -> None:
        super().__init__(fault)
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.zeros((8, 8), np.uint8) if self.fault == "flat picture" else None


class BrokenVector(VectorEnv[Any, Any, Any]):
    """Somebody's vector environment."""

    def __init__(self, fault: str = "", num_envs: int = 1) -> None:
        self.fault, self.num_envs = fault, num_envs
        mode = AutoresetMode.SAME_STEP if fault == "same step" else AutoresetMode.NEXT_STEP
        self.metadata = {"autoreset_mode": mode}
        text, box = spaces.Text(4), spaces.Box(-1, 1, (3,))
        self.single_observation_space = text if fault == "text obs" else box
        self.single_action_space = spaces.Discrete(2)
        if fault == "make":
            raise MemoryError("the GPU is full")

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return np.zeros((self.num_envs, 5 if self.fault == "shape" else 3), np.float32), {}

    def step(self, actions: Any) -> Any:
        raise RuntimeError("kernel\nlaunch failed")


Blind.metadata = {"render_modes": ["rgb_array"]}
make_one: Any = Broken
make_blind: Any = Blind
make_many: Any = BrokenVector
gymnasium.register("bad/Env-v0", make_one, disable_env_checker=True)
gymnasium.register("bad/Blind-v0", make_blind, disable_env_checker=True)
gymnasium.register("bad/Vector-v0", vector_entry_point=make_many)

MODULES = {
    "syntax": "def f(:\n",
    "crash": "import numpy\nnumpy.nothing\n",
    "needs": "import my_mujoco_tools\n",
    "empty": "x = 1\n",
    "bare": "from neuraxis.agents import Agent\nclass Mine(Agent):\n    pass\n",
}
FILES = {
    "two.yaml": b"seed: 1\nseed: 2\n",
    "list.yaml": b"- seed\n",
    "bytes.yaml": b"\xff\xfe",
    "full/of": b"something",
    "begun/.config.yaml.tmp": b"env:",  # killed in its first instant
    "other/.notes.tmp": b"",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a person's modules and files in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(text)
    Path("bad_user").mkdir()
    for name, text in MODULES.items():
        Path("bad_user", f"{name}.py").write_text(text)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.startswith("bad_user")]:
        del sys.modules[name]


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below the folder."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found


def refused(line: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs a command line: it must end with the code and one line with all of `says`, `a | b`."""
    capsys.readouterr()
    words = shlex.split(line)
    if words[0] == "train":
        given = {word.partition("=")[0] for word in words}
        words += ["-q", *(word for word in SMALL if word.partition("=")[0] not in given)]
    assert exit_codes.exit_code(main.neuraxis, words) == code
    out, err = capsys.readouterr()
    one_line(out, err, says)


def one_line(out: str, err: str, says: str) -> None:
    assert out == "" and err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    missing = [part for part in says.split(" | ") if part not in err]
    assert not missing, f"{err!r} does not say {missing}"
    assert len(err) < 500, "a line to read"


HINDSIGHT = "train agent=dqn agent.learning_starts=8 agent.hindsight=future"
USAGE = {
    # commands and options
    "trian": (
        "trian: no such command; did you mean train? | "
        "resume, baseline, check, evaluate, record, compare"
    ),
    "train --seed 3": "--seed: no such option; did you mean seed=VALUE?",
    "train --total-steps=5000": "--total-steps: no such option; did you mean total_steps=VALUE?",
    "train --total_step 5000": "--total_step: no such option; did you mean total_steps=VALUE?",
    "train --agent ppo": "--agent: no such option; did you mean agent=VALUE?",
    "train --lr 3e-4": "--lr: no such option; did you mean agent.learning_rate=VALUE?",
    "train --form full": "No such option '--form'. | --from",
    "sweep --sweep ppo": "--sweep: no such option; did you mean sweep=VALUE?",
    "compare full --sort score": "No such option '--sort'",
    "resume": "Missing argument 'RUN'",
    "list agent": "agent: no such list; did you mean agents? (choices: agents, envs, networks, ",
    "evaluate full --episodes 0": "--episodes | 0 is not in the range x>=1",
    "evaluate full --video film.avi": "--video film.avi: expected a file that ends in .mp4 or .gif",
    "evaluate full --values": "--values: expected --render or --video FILE",
    "evaluate full --render --video film.mp4": "--render: expected no --video; a film is made with",
    # words
    "train seed": "seed: expected KEY=VALUE, like seed=3",
    "train CartPole-v1": "did you mean env=CartPole-v1?",
    "train =3": "=3: expected KEY=VALUE",
    "train seed=1 seed=2": "seed=2: given twice (before: 1)",
    "train num_env=3": "num_env=3: unknown key; did you mean num_envs?",
    "train timesteps=100": "timesteps=100: unknown key; did you mean total_steps?",
    "train agent.n_step=3": "agent.n_step=3: unknown key; did you mean agent.n_steps?",
    "train network.blocks=[{name": "network.blocks=[{name: not valid YAML",
    "train network.blocks.0.size=3": "did you mean network.blocks.0.sizes?",
    "train env=neuraxis/Dict-v0 eval.video_interval_steps=8": (
        "env.id='neuraxis/Dict-v0': cannot be filmed: it has no render mode, not rgb_array"
    ),
    "train env=bad/Blind-v0 eval.video_interval_steps=8": (
        "eval.video_interval_steps=8: bad/Blind-v0, column 0, seed | reset: ValueError: render() "
        "gave None, expected a picture [height, width, channels]"
    ),
    "train env=bad/Blind-v0 'env.kwargs.fault=flat picture' eval.video_interval_steps=8": (
        "render() gave shape (8, 8), expected a picture"
    ),
    # values
    "train num_envs=two": "num_envs=two: expected an integer greater than 0",
    "train num_envs=0": "num_envs=0: expected an integer greater than 0",
    "train total_steps=-5": "total_steps=-5: expected an integer greater than 0",
    "train agent.n_epochs=1.5": "agent.n_epochs=1.5: expected an integer",
    "train seed=9223372036854775808": "expected an integer of at least 0 and less than",
    "train agent.learning_rate=0": "agent.learning_rate=0: expected a number greater than 0",
    "train agent.learning_rate=.nan": "agent.learning_rate=.nan: expected a finite number",
    "train agent.ent_coef=1e400": "agent.ent_coef=1e400: expected a finite number",
    "train env.reward_scale=.nan": "env.reward_scale=.nan: expected a finite number",
    "train agent.gamma=1.01": "agent.gamma=1.01: expected a number from 0 to 1",
    "train network.blocks.0.sizes=[64,-1]": "network.blocks.0.sizes.1=-1: expected an integer",
    "train wandb.mode=on": "wandb.mode=on: expected one of offline, online, disabled",
    "train device=cuda": "device=cuda | no CUDA GPU | use device=auto or device=cpu",
    # names
    "train agent=ppoo": "agent=ppoo: no such agent; did you mean ppo? (choices: a2c, appo, ",
    "train network=lstmm": "network=lstmm: no such network; did you mean lstm?",
    "train network=rnn": "network=rnn: no such network; did you mean gru, lstm?",
    "train env=Nope-v0": "env.id='Nope-v0' is not a registered environment",
    "train env=CartPole-v9": "'CartPole-v9' | did you mean CartPole-v1?",
    "train env=HalfCheetah-v9": "did you mean HalfCheetah-v5?",
    "train env=Pusher-v3": "did you mean Pusher-v5?",
    "train env=GymV26Environment-v1": "'GymV26Environment-v1' is not a registered environment",
    "train env=PongNoFrameskip-v4": (
        "env.id='PongNoFrameskip-v4' is an Atari id from before ALE/...-v5; did you mean "
        "env=ALE/Pong-v5 env.atari.sticky=0?"
    ),
    "train env=ale_py:SpaceInvaders-v0": "did you mean env=ALE/SpaceInvaders-v5?",
    "train env.id=BreakoutDeterministic-v4": "env=ALE/Breakout-v5 env.atari.sticky=0?",
    "train env.atari.sticky=0": "env.atari.sticky=0.0: CartPole-v1 is none of ALE/...-v5",
    "train env=Pong-ram-v4": "did you mean env=ALE/Pong-v5 env.atari.sticky=0?",
    "train env=ALE/Pong-v4": "did you mean env=ALE/Pong-v5 env.atari.sticky=0?",
    "train env=Pong": "env=Pong: no such environment; did you mean env=ALE/Pong-v5? (choices: ",
    "train env=Pong-v9": "did you mean env=ALE/Pong-v5?",
    "train env=MiniGrid-Empty-5x5": "did you mean MiniGrid-Empty-5x5-v0?",
    "train experiment=nope": "experiment=nope: no such experiment (choices: ",
    # files
    "train experiment=two.yaml": "experiment=two.yaml: | seed: given twice (line 2)",
    "train experiment=list.yaml": "experiment=list.yaml: | expected a mapping",
    "train --from bytes.yaml": "bytes.yaml: cannot read it: not UTF-8 text",
    "train --from nowhere.yaml": "nowhere.yaml: cannot read it: No such file",
    "train run_dir=full": "run_dir=full: exists and is not an empty folder; give another one",
    "train run_dir=other": "run_dir=other: exists and is not an empty folder; give another one",
    "train run_dir=two.yaml": "run_dir=two.yaml: exists and is not an empty folder",
    "resume begun": "begun: killed before it had its config.yaml; give its `train` command again",
    "resume nowhere": "nowhere: no such run",
    "evaluate full": "full: not a run, it has no config.yaml",
    # what does not go together
    "train agent=dqn env=Pendulum-v1": "agent=dqn: | Discrete | got Box( | ; try | agent=ppo",
    "train network=cnn": "network: its first block reads images, but there is no image in Box(",
    "train network=cnn network.blocks.0.architecture=nature env=minigrid_doorkey": (
        "7x7 pixels | too small | `small` takes 5x5"
    ),
    "train agent=dqn network.critic=[]": (
        "network.critic: agent=dqn has no critic beside an actor; expected null, or | agent=ppo"
    ),
    "train network.shared=true network.critic=[]": (
        "network.shared=true: expected false where critic has blocks of its own"
    ),
    "train env.image_layout=chw": "env.image_layout=chw: no observation of CartPole-v1 has three",
    "train network=cnn_small env=minigrid_doorkey env.flatten=true": "no image in Box(",
    "train network=lstm compile=true": "compile=true: | the network has memory | use compile=auto",
    "train groups=3 num_envs=8": "groups=3: expected a divisor of num_envs=8",
    "train network=lstm agent.sequence_length=7": "agent.sequence_length=7: must divide | n_steps",
    "train agent.n_steps=1 num_envs=1": "agent.n_steps=1 with num_envs=1 | raise either",
    "train agent.gaussian.log_std_min=1 agent.gaussian.log_std_max=-1": (
        "agent.gaussian.log_std_min=1.0: expected at most log_std_max=-1.0"
    ),
    "train agent.gaussian.log_std_min=1": "log_std_init=0.0: expected at least log_std_min=1.0",
    "train agent.gaussian.log_std_max=-1": "log_std_init=0.0: expected at most log_std_max=-1.0",
    "train agent=dqn agent.gradient_steps=0": "agent.gradient_steps=0: expected 1 or more, or -1",
    "train agent=dqn agent.learning_starts=64": "agent.learning_starts=64: | less than total_steps",
    "train agent=dqn agent.learning_starts=8 agent.buffer_size=9": (
        "agent.buffer_size=9: too small | expected at least"
    ),
    HINDSIGHT: (
        "agent.hindsight=future: expected observations with achieved_goal and desired_goal | Box("
    ),
    f"{HINDSIGHT} env=neuraxis/BitFlip-v0 env.flatten=true": (
        "agent.hindsight=future: | neither joined nor nested, got Box("
    ),
    f"{HINDSIGHT} env=neuraxis/BitFlip-v0 env.last_action=true": (
        "agent.hindsight=future: | neither joined nor nested, got Dict('last_action'"
    ),
    f"{HINDSIGHT} env=neuraxis/BitFlip-v0 env.frame_stack=2": (
        "env.frame_stack=2: expected 1 with agent.hindsight"
    ),
    "train env=neuraxis/BitFlip-v0 agent.hindsight=final": (
        "agent.hindsight=final: unknown key; agent.hindsight is a setting of agent=dqn"
    ),
    "train network=transformer network.blocks.1.heads=5": "size=64 is not a multiple of heads=5",
    "train env=Acrobot-v1 env.vectorization=native": "env.vectorization=native: | Acrobot-v1",
    "train env.processes=2": "env.processes=2: expected null with vectorization=auto",
    "train env.vectorization=async num_envs=4 groups=2 env.processes=3": (
        "env.processes=3: expected at most 2, one for each environment (num_envs=4, groups=2)"
    ),
    "train env.vectorization=async ray.workers=2": (
        "env.vectorization=async: expected another with ray.workers, which are processes already"
    ),
    "train env=Acrobot-v1 env.mask_velocity=true env.kwargs.x=1": (
        "env.kwargs.x=1: Acrobot-v1 has no such argument (it takes: render_mode)"
    ),
    "train env=FrozenLake-v1 env.kwargs.is_slipery=False": (
        "env.kwargs.is_slipery=False: FrozenLake-v1 has no such argument; did you mean is_slippery?"
    ),
    "train env.kwargs.max_episode_steps=20": (
        "env.kwargs.max_episode_steps=20: CartPole-v1 has no such argument; did you mean "
        "env.time_limit=20? (it takes: "
    ),
    "train env=Acrobot-v1 env.kwargs.max_episode_steps=20": "did you mean env.time_limit=20?",
    "train env=BipedalWalker-v3 env.mask_velocity=true": "env.mask_velocity=true: not known for",
    # parts that are frozen or slower
    "train 'agent.freeze={encoder.*: 0.5}'": (
        "agent.freeze: encoder.*: matches no name; did you mean actor.*? | actor.*, critic.*"
    ),
    "train 'agent.freeze={head.*: 200_000}'": (
        "agent.freeze: head.*=200000: expected less than total_steps=64, or null for ever"
    ),
    "train 'agent.freeze={head.*: 1.5}'": "agent.freeze: head.*=1.5: expected a number of steps",
    "train 'agent.freeze={head.*: 0.5, actor.*: 900}'": "agent.freeze: expected either numbers of",
    "train 'agent.freeze={head.*: soon}'": "agent.freeze.head.*=soon: expected an integer",
    "train agent.freeze=head.*": "agent.freeze=head.*: expected a mapping {KEY: VALUE}",
    "train 'agent.learning_rate_factors={head.*: 0}'": "head.*=0: expected a number greater than 0",
    f"train {DQN} 'agent.learning_rate_factors={{heads.*: 2}}'": (
        "agent.learning_rate_factors: heads.*: matches no name | backbone.*, advantage.*"
    ),
    "train agent=trpo 'agent.learning_rate_factors={actor.*: 2}'": (
        "agent.learning_rate_factors: actor.*: matches no name | critic.*, value.*"
    ),
    "train agent=trpo network.shared=true agent.layer_decay=0.9": (
        "agent.layer_decay=0.9: agent=trpo trains no layer below an output by a learning rate"
    ),
    # other people's modules
    "train agent=bad_user.nothing": "agent=bad_user.nothing: | No module named",
    "train agent=bad_user.syntax": "agent=bad_user.syntax: SyntaxError: | (syntax.py, line 1)",
    "train agent=bad_user.crash": "agent=bad_user.crash: AttributeError: | nothing",
    "train agent=bad_user.empty": "agent=bad_user.empty: | one subclass of Agent",
    "train agent=bad_user.bare": "agent=bad_user.bare: | and its Config",
    "train network=bad_user.syntax": "network.blocks.0: block 'bad_user.syntax' | line 1",
    "train network=bad_user.crash": "block 'bad_user.crash': AttributeError: | nothing",
    "train network=bad_user.empty": "block 'bad_user.empty': | one subclass of Backbone",
    "train env=bad_user.syntax:X-v0": "env.id='bad_user.syntax:X-v0': SyntaxError",
    # environments that cannot be made or used
    "train env=bad/Env-v0 env.kwargs.fault=make": "'bad/Env-v0' | KeyError | sensor",
    "train env=bad/Env-v0 'env.kwargs.fault=text obs'": "['said'][0] is a Text; expected Box,",
    "train env=bad/Env-v0 'env.kwargs.fault=graph obs'": "observation_space is a Graph; expected",
    "train env=bad/Env-v0 'env.kwargs.fault=no obs'": "observation_space is a NoneType; expected",
    "train env=bad/Env-v0 'env.kwargs.fault=empty obs'": "Dict(): empty; expected at least one",
    "train env=bad/Env-v0 'env.kwargs.fault=dict action'": "action_space is a Dict; flatten it",
    "train env=bad/Env-v0 'env.kwargs.fault=sequence action'": "action_space is a Sequence; ",
    "train env=bad/Env-v0 'env.kwargs.fault=matrix action'": "(2, 2) | no head; expected Discrete",
    "train env=bad/Env-v0 'env.kwargs.fault=no action'": "'bad/Env-v0' | 'no action' | NoneType",
    "train env=bad/Vector-v0 'env.kwargs.fault=same step'": "bad/Vector-v0 | NEXT_STEP | sync",
    "train env=bad/Vector-v0 'env.kwargs.fault=text obs'": "bad/Vector-v0: | is a Text; expected",
    "train env=bad/Vector-v0 env.kwargs.fault=make": "'bad/Vector-v0' | the GPU is full",
}


@pytest.mark.parametrize("line", USAGE)
def test_wrong_words_are_refused_before_anything_is_written(
    line: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = contents(here)
    refused(line, 2, USAGE[line], capsys)
    assert contents(here) == before


@pytest.mark.parametrize(("module", "extra"), [("ale_py", "atari"), ("minigrid", "minigrid")])
def test_a_missing_extra_is_named(
    module: str,
    extra: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    env = {"ale_py": "PongNoFrameskip-v4", "minigrid": "minigrid_empty"}[module]
    refused(f"train env={env}", 2, f"{module} | pip install 'neuraxis[{extra}]'", capsys)


def test_folders_that_ray_cannot_use(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = here / ("a" * 100)
    long.mkdir()
    words = [sys.executable, "-m", "neuraxis", "train", "-q", *SMALL, "ray.workers=2"]
    environment = os.environ | {"TMPDIR": str(long)}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    says = "ray.address=null: | cannot exceed 107 bytes | give it a short folder, RAY_TMPDIR=/tmp"
    one_line(ended.stdout, ended.stderr, says)
    monkeypatch.setenv("HOME", "/proc/1")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # what the test sets goes when it ends
        monkeypatch.delenv(name)
    ray_cluster.protect_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64, "it lives in this process only"


@pytest.mark.parametrize("env", ["HalfCheetah-v3", "bad_user.needs:Own-v0"])
def test_no_extra_is_named_that_would_not_help(
    env: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = {"H": "moved to the gymnasium-robotics project", "b": "named 'my_mujoco_tools'"}[env[0]]
    assert exit_codes.exit_code(main.neuraxis, ["train", f"env={env}"]) == 2
    error = capsys.readouterr().err
    assert says in error and "neuraxis[" not in error


# --- environments that fail while they run

FAULTS = {
    "Env-v0 reset": "bad/Env-v0, column 0, seed | reset: KeyError: | sensor",
    "Env-v0 shape": "column 0 | reset: | shape (1,) | its observation_space says (3,)",
    "Env-v0 bytes": "column 0 | reset: | dtype float32 | says (3,) and uint8",
    "Env-v0 autoreset": "bad/Env-v0, column 0, seed | reset: KeyError: | sensor",
    "Env-v0 step": "bad/Env-v0, column 0, seed | step 1: KeyError: | sensor",
    "Env-v0 four": "step 1: ValueError: | got 4) | ; step must return observation, reward,",
    "Env-v0 late shape": "column 0 | step 1: | shape (1,) | its observation_space says (3,)",
    "Env-v0 exit": "bad/Env-v0, column 0, seed | step 1: SystemExit: the window was closed (",
    "Env-v0 nan obs": (
        f"column 0 gave nan as observation at [0] in step {FAULTY}, run seed 0 | "
        "observations must be finite"
    ),
    "Env-v0 nan reward": (
        f"column 0 gave nan as reward in step {FAULTY}, run seed 0 | rewards must be finite"
    ),
    "Env-v0 inf reward": (
        f"column 0 gave -inf as reward in step {FAULTY}, run seed 0 | rewards must be finite"
    ),
    "Env-v0 text reward": "bad/Env-v0, column 0 | step 1: reward is 'good'; expected a number",
    "Vector-v0 shape": "bad/Vector-v0, columns 0 to 1 | shape (2, 5) | says (2, 3)",
    "Vector-v0 step": "bad/Vector-v0, columns 0 to 1, run seed 0, step 1: RuntimeError",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_environment_that_fails_is_named_and_what_was_saved_stays(
    fault: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env, _, kind = fault.partition(" ")
    words = f"env=bad/{env} 'env.kwargs.fault={kind}' agent.n_steps=16 total_steps=200"
    refused(f"train {words} checkpoint.interval_steps=20 run_dir=run", 1, FAULTS[fault], capsys)
    run = here / "run"
    assert not list(run.rglob(".*")), "temporary files"
    assert run.exists() != (kind in ("reset", "shape", "bytes")), "they fail before the run begins"
    if run.exists():
        assert '"status": "failed"' in (run / "summary.json").read_text()
        saved = fault not in ("Env-v0 autoreset", "Vector-v0 step")
        assert (run / "checkpoints" / "last").exists() == saved
        assert not saved or checkpoint.read(last(run))["progress"]["steps"] > 20


def test_a_film_of_an_environment_that_draws_nothing_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["env=bad/Blind-v0", "agent.n_steps=16", "run_dir=run", *SMALL]
    assert exit_codes.exit_code(main.neuraxis, ["train", "-q", *words]) == 0
    says = "bad/Blind-v0, column 0, seed | ValueError: render() gave None, expected a picture"
    refused("evaluate run --episodes 1 --video film.mp4", 1, says, capsys)
    assert {path.name for path in here.glob("*ilm*")} == set()
    for name in DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    says = "no window can be opened: there is no screen (DISPLAY is not set); a film needs none"
    refused("evaluate run --episodes 1 --render", 2, says, capsys)


def test_an_environment_that_fails_to_close_is_only_warned_of(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["env=bad/Env-v0", "env.kwargs.fault=close", "agent.n_steps=16", *SMALL]
    assert exit_codes.exit_code(main.neuraxis, ["train", "-q", *words]) == 0
    assert any("Env-v0, column 1, close: KeyError: 'sensor" in text for text in caplog.messages)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            f"agent.n_steps={HUGE}",
            f"Unable to allocate | ; lower agent.n_steps={HUGE} or num_envs=2",
        ),
        (f"agent.n_steps={HUGE**2}", f"; lower agent.n_steps={HUGE**2}"),
        (f"{DQN} agent.buffer_size={HUGE}", f"; lower agent.buffer_size={HUGE}"),
        (f"{DQN} agent.buffer_size={HUGE**2}", f"; lower agent.buffer_size={HUGE**2}"),
        (f"{DQN} agent.batch_size={HUGE}", f"; lower agent.batch_size={HUGE} or"),
        (f"{DQN} agent.batch_size={HUGE**2}", f"; lower agent.batch_size={HUGE**2} or"),
    ],
)
def test_what_does_not_fit_into_memory_is_said(
    words: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(f"train {words} run_dir=run", 1, f"out of memory: | {says}", capsys)
    assert '"status": "failed"' in Path("run/summary.json").read_text()


def test_priorities_that_do_not_fit_into_memory_are_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before there is a run: they are made with the agent."""
    words = f"{DQN} agent.prioritized=true agent.buffer_size={HUGE}"
    says = f"Unable to allocate | ; lower agent.buffer_size={HUGE}"
    refused(f"train {words} run_dir=run", 1, f"out of memory: | {says}", capsys)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "words",
    [
        f"network.blocks.0.sizes=[{HUGE}]",
        f"network.blocks.0.sizes=[{10**6},{10**7}]",
        f"network.blocks.0.sizes=[{HUGE**2}]",
        f"network=lstm network.blocks.1.size={HUGE}",
        f"network=transformer network.blocks.1.memory={HUGE}",
        f"num_envs={HUGE}",
        f"num_envs={HUGE**2}",
        f"num_envs={HUGE} env.vectorization=native",
    ],
)
def test_what_does_not_fit_before_a_run_is_said(
    words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(here)
    code, setting = (2, f"num_envs={HUGE}") if "num_envs" in words else (1, "network.blocks")
    refused(f"train {words} run_dir=run", code, f"; lower {setting}", capsys)
    assert contents(here) == before


def test_a_gpu_without_memory_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(*_: Any) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB"
        )

    monkeypatch.setattr(PPO, "learn", learn)
    says = "out of memory: Tried to allocate 20.00 GiB; lower agent.batch_size=256 or | num_envs=2"
    refused("train run_dir=run", 1, says, capsys)
    assert "lower agent.batch_size" in Path("run/summary.json").read_text()


# --- runs on disk

RESUME, EVALUATE = "resume run -q total_steps=128", "evaluate run --episodes 1 --checkpoint last"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, `run`, of two checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    words = "agent.n_steps=16 log_interval_steps=16 checkpoint.interval_steps=32 checkpoint.keep=1"
    words = [*SMALL, *words.split(), f"run_dir={folder / 'run'}"]
    assert exit_codes.exit_code(main.neuraxis, ["train", "-q", *words]) == 0
    return folder


@pytest.fixture
def run(trained: Path, here: Path) -> Path:
    """A copy of the run, `run` in the current folder."""
    shutil.copytree(trained / "run", here / "run", symlinks=True)
    return here / "run"


def last(run: Path) -> Path:
    return checkpoint_folder.chosen(run / "checkpoints", "last")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:30])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


ANOTHER = "take another one, step_000000032 (resume --from, evaluate --checkpoint)"
# what is done to the run; the lines refused; exit code; what is said
DAMAGE: dict[str, tuple[Callable[[Path], object], list[str], int, str]] = {
    "arrays cut": (
        lambda run: cut(last(run) / "state.safetensors"),
        [RESUME, EVALUATE],
        1,
        f"state.safetensors: damaged | SHA-256 | {ANOTHER}",
    ),
    "arrays tampered with": (
        lambda run: flip(last(run) / "state.safetensors"),
        [RESUME, EVALUATE],
        1,
        f"state.safetensors: damaged, its SHA-256 differs | {ANOTHER}",
    ),
    "arrays missing": (
        lambda run: (last(run) / "state.safetensors").unlink(),
        [RESUME],
        1,
        f"state.safetensors: missing | {ANOTHER}",
    ),
    "structure cut": (
        lambda run: cut(last(run) / "state.json"),
        [RESUME],
        1,
        f"state.json: damaged, not the JSON that was written | {ANOTHER}",
    ),
    "structure tampered with": (
        lambda run: edit(last(run) / "state.json", '"steps"', '"stepz"'),
        [RESUME, EVALUATE],
        1,
        f"state.json: damaged, its SHA-256 differs | {ANOTHER}",
    ),
    "newer format": (
        lambda run: edit(last(run) / "state.json", '"format":1', '"format":99'),
        [RESUME, EVALUATE],
        1,
        "state.json: format 99, this neuraxis reads 1: update neuraxis",
    ),
    "checkpoint deleted": (
        lambda run: shutil.rmtree(last(run)),
        [RESUME, EVALUATE],
        1,
        f"state.json: missing | {ANOTHER}",
    ),
    "no checkpoints": (
        lambda run: shutil.rmtree(run / "checkpoints"),
        [RESUME, EVALUATE],
        1,
        "run/checkpoints: there is no checkpoint",
    ),
    "no such checkpoint": (
        lambda run: None,
        ["resume run --from step_5", "evaluate run --checkpoint step_5"],
        2,
        "checkpoint step_5: expected last, best, step_000000032",
    ),
    "another network": (
        lambda run: edit(run / "config.yaml", "    - 64\n", "    - 32\n"),
        [RESUME, EVALUATE],
        1,
        "does not fit what config.yaml describes | size mismatch",
    ),
    "another environment": (
        lambda run: edit(run / "config.yaml", "CartPole-v1", "Acrobot-v1"),
        [RESUME],
        1,
        "does not fit what config.yaml describes | size mismatch",
    ),
    "another environment evaluated": (
        lambda run: edit(run / "config.yaml", "CartPole-v1", "Acrobot-v1"),
        [EVALUATE],
        2,
        "env.id='Acrobot-v1': observation_space Box( | the policy was made for Box(",
    ),
    "another form of environment": (
        lambda run: edit(run / "config.yaml", "vectorization: auto", "vectorization: sync"),
        [RESUME],
        1,
        "does not fit what config.yaml describes",
    ),
    "another number of environments": (
        lambda run: edit(run / "config.yaml", "num_envs: 2", "num_envs: 4"),
        [RESUME],
        1,
        "the checkpoint has num_envs=2, the configuration num_envs=4; expected the same",
    ),
    "config.yaml empty": (
        lambda run: (run / "config.yaml").write_text(""),
        [RESUME, EVALUATE],
        2,
        "run/config.yaml: expected a mapping",
    ),
    "config.yaml not text": (
        lambda run: (run / "config.yaml").write_bytes(b"\xff"),
        [RESUME, EVALUATE],
        2,
        "run/config.yaml: cannot read it: not UTF-8 text",
    ),
    "config.yaml cut": (
        lambda run: cut(run / "config.yaml"),
        [RESUME, EVALUATE],
        2,
        "run/config.yaml: ",
    ),
    "config.yaml with another key": (
        lambda run: edit(run / "config.yaml", "total_steps:", "total_step:"),
        [RESUME, EVALUATE],
        2,
        "run/config.yaml: total_step=64: unknown key; did you mean total_steps?",
    ),
    "config.yaml a folder": (
        lambda run: replace_by_folder(run / "config.yaml"),
        [RESUME, EVALUATE],
        2,
        "run: not a run, it has no config.yaml",
    ),
    "meta.json": (
        lambda run: (run / "meta.json").write_text("[]"),
        [RESUME],
        1,
        "run/meta.json: damaged, not a JSON object",
    ),
    "meta.json with versions in a list": (
        lambda run: (run / "meta.json").write_text('{"versions": [1]}'),
        [RESUME],
        1,
        "run/meta.json: damaged: ",
    ),
    "meta.json with another history": (
        lambda run: (run / "meta.json").write_text('{"resumed": [3]}'),
        [RESUME],
        1,
        "run/meta.json: damaged: ",
    ),
    "summary.json": (
        lambda run: cut(run / "summary.json"),
        [RESUME],
        1,
        "run/summary.json: damaged, not JSON",
    ),
    "metrics.jsonl short": (
        lambda run: cut(run / "metrics.jsonl"),
        [RESUME],
        1,
        "run/metrics.jsonl: 30 bytes, the checkpoint needs | restore the file",
    ),
    "metrics.jsonl a folder": (
        lambda run: replace_by_folder(run / "metrics.jsonl"),
        [RESUME],
        1,
        "run/metrics.jsonl: Is a directory",
    ),
    "what may not change": (
        lambda run: None,
        ["resume run agent.gamma=0.5 -q", "resume run num_envs=4 -q", "resume run env=Acrobot-v1"],
        2,
        "cannot change in a resumed run (what can: total_steps, device",
    ),
    "a slip in what may change": (
        lambda run: None,
        ["resume run total_stps=256 -q"],
        2,
        "total_stps=256: cannot change in a resumed run; did you mean total_steps? (what can: ",
    ),
    "a run there": (
        lambda run: None,
        ["train run_dir=run"],
        2,
        "run_dir=run: exists | `neuraxis resume run` continues it",
    ),
    "a video below a file": (
        lambda run: None,
        ["evaluate run --episodes 1 --video run/meta.json/film.mp4"],
        1,
        "run/meta.json/film.mp4: ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_named_and_not_touched(
    kind: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, lines, code, says = DAMAGE[kind]
    damage(run)
    before = contents(run)
    for line in lines:
        refused(line, code, says, capsys)
        after = contents(run)
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed <= {"metrics.jsonl"}, "cut back to the checkpoint before it goes on"


def test_the_home_folder_and_spaces_in_paths(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` reaches us from Python, from zsh and in `--out=~/report`; commands can be pasted."""
    home = run.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "mine.yaml").write_text("total_steps: 64\n")
    small = [word for word in SMALL if not word.startswith("total_steps")]
    train(*small, "experiment=~/mine.yaml", run_dir="~/my run")
    assert load("~/my run") is not None
    for line in (
        "train -q --from '~/my run' 'run_dir=~/again'",
        "evaluate '~/my run' --episodes 1",
        "compare '~/my run'",
        "watch '~/my run' --once",
    ):
        assert exit_codes.exit_code(main.neuraxis, shlex.split(line)) == 0
    report.write({"report.html": b""}, Path("~/report"))
    made = {entry.name for entry in home.iterdir() if not entry.name.startswith(".")}
    assert made == {"again", "mine.yaml", "my run", "report"} and not Path("~").exists()
    assert load_config(["run_dir=~/x"]).run_dir == "~/x", "each machine has its own"
    says = f"my run: exists | `neuraxis resume '{home}/my run'` continues it"
    refused("train 'run_dir=~/my run'", 2, says, capsys)
    with pytest.raises(ValueError, match="~no-such-user/run: no such run"):
        load("~no-such-user/run")


def test_a_run_that_another_process_trains_is_left_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import fcntl; file = open('run/run.lock', 'a'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('there', flush=True); input()"
    )
    words = [sys.executable, "-c", code]
    before = contents(run)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"there\n"
        refused(RESUME, 1, "run: another process is training in this run", capsys)
        other.communicate(b"\n")
    assert contents(run) == before


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk with room for files of so many bytes: a real write fails, for root too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Not root, for whom no file is read-only."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_full_disk_leaves_the_last_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest_file(20_000):
        refused(RESUME, 1, "run/checkpoints/step_ | File too large", capsys)
    assert not list(run.rglob(".*"))
    assert len(list((run / "checkpoints").glob("step_*"))) == 2
    assert exit_codes.exit_code(main.neuraxis, [*RESUME.split()]) == 0, "with room again it goes on"
    with largest_file(100):
        refused("train run_dir=new", 1, "new/config.yaml: File too large", capsys)
    assert not list(Path("new").iterdir())


def test_a_disk_that_is_full_at_the_sync(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "fsync", full)
    before = contents(run / "checkpoints")
    refused(RESUME, 1, "run/checkpoints/step_ | No space left on device", capsys)
    assert contents(run / "checkpoints") == before


@pytest.mark.parametrize("folder", ["two.yaml/run", "/dev/full/run", "/proc/run"])
def test_a_folder_that_cannot_be_made(
    folder: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(here)
    refused(f"train run_dir={folder}", 1, f"{folder}: ", capsys)
    assert contents(here) == before


def test_folders_that_may_not_be_written_or_read(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run.parent)
    for path in (run.parent, run, run / "metrics.jsonl"):
        path.chmod(0o555)
    with without_privileges():
        refused("train run_dir=new", 1, "new: Permission denied", capsys)
        refused("train", 1, "runs/CartPole-v1 | Permission denied", capsys)
        refused(RESUME, 1, "run/metrics.jsonl: Permission denied", capsys)
    run.chmod(0)
    with without_privileges():
        for line in (RESUME, EVALUATE):
            refused(line, 1, "run/config.yaml | Permission denied", capsys)
        refused("train --from run/config.yaml", 2, "run/config.yaml: cannot read it", capsys)
    for path in (run.parent, run):
        path.chmod(0o755)
    assert contents(run.parent) == before


# --- real processes

PROGRAM = """
    import sys
    for module in ("mujoco", "Box2D", "moviepy"):
        sys.modules[module] = None
    from neuraxis.training.cli.main import main
    for line in sys.argv[1:]:
        sys.argv = line.split()
        try:
            main()
        except SystemExit as end:
            print(end.code, flush=True)
"""


def test_two_threads_train_at_once(tmp_path: Path) -> None:
    """As Optuna's n_jobs=2 has it."""
    words = ("wandb.mode=disabled", "total_steps=200", "eval.final_episodes=1", "num_envs=2")
    words = (*words, "agent.learning_starts=50", "agent.batch_size=8")
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(train, *words, *choice.split(), f"run_dir={tmp_path / choice}")
            for choice in ("agent=dqn", "agent=sac env=Pendulum-v1")
        ]
    assert {run.result().summary["status"] for run in runs} == {"finished"}


def test_the_program_itself(run: Path) -> None:
    cut(last(run) / "state.json")
    lines = {
        "neuraxis train num_envs=0": "2: num_envs=0: expected an integer greater than 0",
        f"neuraxis {RESUME}": "1: state.json: damaged, not the JSON that was written",
        "neuraxis train env=HalfCheetah-v5": "2: HalfCheetah-v5 | pip install 'neuraxis[mujoco]'",
        "neuraxis train env=LunarLander-v3": "2: LunarLander-v3 | pip install 'neuraxis[box2d]'",
        "neuraxis evaluate run --checkpoint step_000000032 --video film.mp4": (
            "2: CartPole-v1 | pip install 'neuraxis[video]'"
        ),
    }
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM), *lines]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    codes, errors = ended.stdout.splitlines(), ended.stderr.splitlines()
    assert len(codes) == len(errors) == len(lines), ended.stderr
    for code, error, expected in zip(codes, errors, lines.values(), strict=True):
        wanted, _, says = expected.partition(": ")
        assert code == wanted
        one_line("", f"{error}\n", says)
    assert not Path("film.mp4").exists() and not list(run.parent.glob(".*"))
