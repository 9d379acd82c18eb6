"""The one loop: every agent, every environment, every source of rollouts.

session = prepare(cfg)                 what can be refused is refused here
run = session.run()
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from ..agents.peers import Peers
from ..configs import Config
from ..envs import EnvError, make
from .build import build_agent
from .evaluate import Stopped, evaluate, evaluation_seed
from .files import RunError
from .learner import Learner
from .learners import Learners
from .machine import tune
from .profile import Profile
from .run import Run
from .sources import Source, build_source

OnRecord = Callable[[Run], None]


class Session:
    """A run that is ready to go: everything that can be refused has been."""

    def __init__(self, run: Run, learner: Learner, source: Source) -> None:
        self.record = run
        self.cfg = run.cfg
        self.learner = learner
        self.agent = learner.agent
        self.source = source
        self.stopping = False
        self.profile = Profile()

    def run(self, on_record: OnRecord | None = None) -> Run:
        """Trains to the end, or to Ctrl-C or SIGTERM, and closes everything.

        Args:
            on_record: Called after each rollout that was learned from.

        Raises:
            EnvError: An environment failed.
            RunError: Training diverged, or the disk refused.
        """
        run = self.record
        try:
            with self._interruptible(), suppress(Stopped):
                self._loop(on_record)
                if not self.stopping:
                    final = self.evaluate_best()
                    run.log({key.replace("evaluate", "final"): final[key] for key in final})
                    run.finish("finished", final)
        except (EnvError, RunError) as error:
            run.finish("failed", failure=str(error))
            raise
        finally:
            run.finish("interrupted" if self.stopping else "failed")
            self.source.close()
            self.learner.close()
        return run

    def _loop(self, on_record: OnRecord | None) -> None:
        run, agent, source, cfg, profile = (
            self.record,
            self.agent,
            self.source,
            self.cfg,
            self.profile,
        )
        self._evaluate_and_save()  # an evaluation that was stopped before the run was resumed
        while run.steps < cfg.total_steps and not self.stopping:
            with profile("collect"):
                rollout = source.next()
            with profile("learn"):
                metrics = self.learner.learn(rollout)
            with profile("publish"):
                source.publish(agent.policy)
            with profile("record"):
                run.record(rollout, {**metrics, **source.metrics()}, agent.tensors)
            self._evaluate_and_save()
            if on_record is not None:
                on_record(run)
        run.save(agent, source)

    def _evaluate_and_save(self) -> None:
        """Evaluates, films and saves what is due; a stopped evaluation stays due."""
        run, cfg = self.record, self.cfg
        if run.due("eval"):
            film = run.film()
            try:
                with self.profile("evaluate"):
                    if film is not None:
                        self._play(1, (1, run.steps), 1, film)
                    run.log(self._play(cfg.eval.episodes, (1, run.steps), cfg.num_envs))
            except Stopped:
                run.postpone("eval")
                if film is not None:
                    run.postpone("film")
        if run.due("save"):
            with self.profile("save"):
                run.save(self.agent, self.source)

    def shares(self) -> dict[str, float]:
        """Share of the time of environments, acting, learning and the rest, the largest first."""
        return self.profile.shares(self.source.env_seconds)

    def evaluate_best(self) -> dict[str, float]:
        """The final evaluation, of checkpoint `best` (what `load` gives).

        It has more episodes, and others than those by which the best was chosen.
        """
        self.agent.policy.load_state_dict(self.record.read("best", "agent", "policy"))
        return self._play(self.cfg.eval.final_episodes, (2,), self.cfg.num_envs)

    def _play(
        self, episodes: int, key: tuple[int, ...], num_envs: int, film: Path | None = None
    ) -> dict[str, float]:
        """Greedy episodes in environments of their own, with seeds that training never sees."""
        seed = evaluation_seed(self.cfg.seed, *key)
        policy, stop = self.agent.policy, lambda: self.stopping
        return evaluate(policy, self.cfg.env, episodes, seed, num_envs, video=film, stop=stop)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Lets Ctrl-C and SIGTERM end the loop between updates; a second Ctrl-C ends it at once.

        An evaluation is broken off, and done again when the run is resumed.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        in_main = threading.current_thread() is threading.main_thread()  # others get no signals
        numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        before = {number: signal.getsignal(number) for number in numbers}
        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def prepare(
    cfg: Config, resume_from: str | Path | None = None, checkpoint: str = "last"
) -> Session:
    """Builds all that a run needs; nothing is written before everything fits.

    Args:
        cfg: The configuration.
        resume_from: Folder of the run to go on with.
        checkpoint: From which of its checkpoints: `last`, `best` or `step_...`.

    Raises:
        ValueError: Something that was asked for cannot be had; says what, where and what can.
        RunError: The run's folder is damaged.
    """
    tune(cfg.threads)
    several = cfg.learner.count > 1
    agent = build_agent(cfg, Peers(0, cfg.learner.count) if several else None)
    if cfg.eval.video_interval_steps:
        _try_film(cfg)
    with ExitStack() as undo:
        source = build_source(cfg, agent.policy, agent.rollout_length)
        undo.callback(source.close)
        learner = (Learners if several else Learner)(cfg, agent)
        undo.callback(learner.close)
        if resume_from is None:
            run = Run.create(cfg)
        else:
            run = Run.open(resume_from, cfg)
            run.load(agent, source, checkpoint)
            learner.align()
            source.copy(agent.policy)
        undo.pop_all()
    return Session(run, learner, source)


def _try_film(cfg: Config) -> None:
    """Raises ValueError if the environment cannot be filmed: rather now than in the run."""
    with tempfile.TemporaryDirectory() as folder:
        make(cfg.env, 1, cfg.seed, video=str(Path(folder, "films"))).close()
