"""The drills: each trains PPO on CartPole with two Ray workers, and does something to it."""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
from driver import Failed, Training, comparable, restarts, through_zip
from machines import machines

HERE = Path(__file__).parent
PAUSE = 5.0, 10.0  # seconds between kills; a worker takes 3 to start, more on a busy machine
COMMON = (
    *("experiment=cartpole_ppo", "total_steps=60_000", "wandb.mode=disabled"),
    *("eval.interval_steps=10_000", "eval.final_episodes=20", "checkpoint.interval_steps=5_000"),
    *("ray.max_restarts=10_000", "ray.timeout_seconds=60"),
)
TROUBLED = "env=troubled:Troubled-v0"


class Drills:
    """The drills; each trains in `folder` and raises Failed, or returns what it did."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_AUTH_MODE": "token",
        }
        self.whole, self.whole_troubled = home / "whole", home / "whole_troubled"

    def undisturbed(self, names: set[str]) -> None:
        """The runs that those must equal which these drills resume."""
        if names & {*RESUMED}:
            self.train(self.whole).end()
        if "sigterm_hung" in names:
            self.train(self.whole_troubled, TROUBLED).end()

    def train(self, folder: Path, *words: str, machine: tuple[str, ...] = ()) -> Training:
        """Starts a run with two workers."""
        keys = {"ray.workers": "2"} | dict(word.split("=", 1) for word in (*COMMON, *words))
        named = [f"{key}={value}" for key, value in keys.items()]
        return Training(folder, ("train", "-q", *named, f"run_dir={folder}"), self.env, machine)

    def kill_worker(self, folder: Path) -> str:
        """Kill -9 of a random worker, every few seconds once the run has learned since."""
        run = self.train(folder)
        kills, steps, moment = 0, 0, 0.0
        while run.running():
            if time.monotonic() < moment or run.steps() == steps or not (workers := run.look()):
                continue  # a worker that is killed before it has begun leads nowhere
            random.choice(workers).kill()
            kills += 1
            steps, moment = run.steps(), time.monotonic() + random.uniform(*PAUSE)
        run.end()
        run.alone()
        return f"{kills} kills, {restarts(folder, min(1, kills))} restarts"

    def raises(self, folder: Path) -> str:
        """An environment that raises with probability 1e-3 in each step."""
        run = self.train(folder, TROUBLED, "env.kwargs.raising=1e-3")
        run.end()
        run.alone()
        return f"{restarts(folder, 20)} restarts"

    def hang(self, folder: Path) -> str:
        """Environments that hang, each after 3,000 steps: killed after 30 seconds."""
        words = (TROUBLED, "env.kwargs.hang_after=3_000", "ray.timeout_seconds=30")
        run = self.train(folder, *words)
        run.end()
        run.alone()
        return f"{restarts(folder, 4)} restarts"

    def node(self, folder: Path) -> str:
        """Kill -9 of one of two nodes, with half of the four workers."""
        os.environ |= {key: self.env[key] for key in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
        from ray.cluster_utils import Cluster  # Ray reads the mode when it is imported

        node = {"num_cpus": 2, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            second = cluster.add_node(num_cpus=2)
            cluster.wait_for_nodes()
            words = ("ray.workers=4", f"ray.address={cluster.address}")
            run = self.train(folder, *words)
            run.until(lambda: run.steps() > 10_000)
            cluster.remove_node(second, allow_graceful=False)
            run.end()
            run.alone()
        finally:
            cluster.shutdown()
        return f"{restarts(folder, 1)} restarts"

    def network(self, folder: Path) -> str:
        """One of two machines, which are network namespaces, is cut off and ends."""
        with machines(self.home / f"r{os.getpid()}", self.env) as both:
            words = ("ray.workers=4", f"ray.address={both.address}", "ray.timeout_seconds=30")
            run = self.train(folder, *words, machine=both.at(0))
            run.until(lambda: run.steps() > 10_000)
            both.lose(1)
            run.end()
            run.alone()
        return f"{restarts(folder, 1)} restarts"

    def sigterm(self, folder: Path) -> str:
        """SIGTERM to the driver at a random moment, as a pre-empted node gets it, then resume."""
        run = self._at_a_moment(self.train(folder))
        run.process.terminate()
        run.end(130)
        return self._resumed(run, self.whole)

    def kill_driver(self, folder: Path) -> str:
        """Kill -9 of the driver at a random moment, then resume."""
        run = self._at_a_moment(self.train(folder))
        run.process.kill()
        run.end(-signal.SIGKILL)
        return self._resumed(run, self.whole)

    def sigterm_all(self, folder: Path) -> str:
        """SIGTERM to all processes at once, Ray's too, as a container does it, then resume."""
        run = self._at_a_moment(self.train(folder))
        family = run.processes()
        random.shuffle(family)
        for process in family:
            with suppress(psutil.NoSuchProcess):  # it has followed another one
                process.terminate()
        seconds = run.end_soon(130)
        return f"{self._resumed(run, self.whole)}, ended in {seconds:.1f} s"

    def sigterm_hung(self, folder: Path) -> str:
        """SIGTERM while the environments hang, in workers or in the driver itself, then resume."""
        hang = folder.with_name(f"{folder.name}-hangs")
        words = random.choice([("ray.workers=2",), ("ray.workers=0", "groups=2")])
        words = (TROUBLED, f"env.kwargs.hang_while={hang}", *words)
        run = self._at_a_moment(self.train(folder, *words))
        hang.touch()
        time.sleep(random.uniform(*PAUSE))
        run.process.terminate()
        seconds = run.end_soon(130)
        hang.unlink()
        said = self._resumed(run, self.whole_troubled)
        return f"{words[-1]}, {said}, ended in {seconds:.1f} s"

    def copied(self, folder: Path) -> str:
        """Kill -9 of the driver, then resume of a copy without links, through a zip file."""
        run = self._at_a_moment(self.train(folder))
        run.process.kill()
        run.end(-signal.SIGKILL)
        through_zip(folder)
        return self._resumed(run, self.whole)

    def _at_a_moment(self, run: Training) -> Training:
        """Waits for a random moment after the first checkpoint; takes note of the processes."""
        moment, last = random.randint(6_000, 55_000), run.folder / "checkpoints" / "last"
        run.until(lambda: run.steps() >= moment and last.exists())
        run.look()
        return run

    def _resumed(self, run: Training, whole: Path) -> str:
        """Resumes a run that has ended. Raises Failed if it differs from the undisturbed one."""
        reached, folder = run.steps(), run.folder
        resumed = Training(folder, ("resume", "-q", str(folder)), self.env)
        resumed.end()
        for ended in (run, resumed):
            ended.alone()
        if comparable(folder) != comparable(whole):
            raise Failed("metrics.jsonl differs from that of the undisturbed run")
        return f"at step {reached:,}, equal"


RESUMED = ("sigterm", "kill_driver", "sigterm_all", "copied")
DRILLS = ("kill_worker", "raises", "hang", "node", "network", *RESUMED, "sigterm_hung")
