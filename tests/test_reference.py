"""The docs have every setting, metric and agent that the code has.

python -m tests.test_reference    # writes the tables of README.md and docs/configuration.md again
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.augmentation import AugmentConfig
from neuraxis.agents.plasticity import PlasticityConfig
from neuraxis.agents.rnd import RNDConfig
from neuraxis.agents.teacher_config import TeacherConfig, ValueTeacherConfig
from neuraxis.configs import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LearnerConfig,
    PrometheusConfig,
    RayConfig,
    TensorBoardConfig,
    WandbConfig,
    load,
)
from neuraxis.configs.errors import expected
from neuraxis.configs.schema import schema_of
from neuraxis.configs.text import brief, plain
from neuraxis.envs import AtariConfig, EnvConfig
from neuraxis.networks import GaussianConfig, NetworkConfig, block_class, block_names
from neuraxis.networks.transfer.transfer import InitConfig
from neuraxis.training import train
from neuraxis.training.cli.listing import matrix
from neuraxis.training.sweeps.ranges import Range, SweepConfig

from .helpers import REWARDED, action_words, claimed

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
METRICS = ROOT / "docs" / "metrics.md"
README = ROOT / "README.md"
AGENTS = re.compile(r"^\| agent \|.*?\n(?=\n)", re.MULTILINE | re.DOTALL)  # README's table
MARK = "<!-- What follows is written by `python -m tests.test_reference`. -->\n"
KIND = r"(?:best|episode|evaluate|final|loss|policy|q|ray|replay|teacher|time|train|value)"


def sections() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Title, prefix of the keys and class of each section of the configuration."""
    yield "The run", "", Config
    yield "env", "env.", EnvConfig
    yield "env.atari", "env.atari.", AtariConfig
    for name in agent_names():
        yield f"agent={name}", "agent.", agent_class(name).Config
    yield (
        "agent=sb3/ppo and its like (of neuraxis baseline)",
        "agent.",
        agent_class("sb3/ppo").Config,
    )
    yield "agent.gaussian (of actor-critics on policy)", "agent.gaussian.", GaussianConfig
    yield "agent.augment (of agents with a network)", "agent.augment.", AugmentConfig
    yield "agent.plasticity (of agents with a replay)", "agent.plasticity.", PlasticityConfig
    yield "agent.rnd (of agents on policy)", "agent.rnd.", RNDConfig
    yield "agent.teacher (of ppo, appo, impala, sac; of bc)", "agent.teacher.", TeacherConfig
    yield "agent.teacher (of dqn)", "agent.teacher.", ValueTeacherConfig
    yield "init", "init.", InitConfig
    yield "network", "network.", NetworkConfig
    for name in block_names():
        yield f"A block {{name: {name}}}", "network.blocks.N.", block_class(name).Config
    yield "eval", "eval.", EvalConfig
    yield "checkpoint", "checkpoint.", CheckpointConfig
    yield "wandb", "wandb.", WandbConfig
    yield "tensorboard", "tensorboard.", TensorBoardConfig
    yield "prometheus", "prometheus.", PrometheusConfig
    yield "ray", "ray.", RayConfig
    yield "learner", "learner.", LearnerConfig
    yield "sweep", "sweep.", SweepConfig
    yield "A range of a sweep", "sweep.parameters.KEY.", Range


def reference() -> str:
    """The tables of all keys, in Markdown."""
    parts = []
    for title, prefix, model in sections():
        properties = schema_of(model)["properties"]
        rows = [
            (f"`{prefix}{name}`", _default(field), expected(properties[name]), _line(field))
            for name, field in fields(model)
            if name != "name" and not isinstance(_value(field), BaseModel)
        ]
        heading = ("key", "default", "takes", "meaning")
        lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (heading, *rows)]
        lines.insert(1, "--- | --- | --- | ---")
        parts.append("\n".join([f"### {title}", "", *(f"| {line} |" for line in lines), ""]))
    return "\n".join(parts)


def fields(model: type[BaseModel]) -> list[tuple[str, Any]]:
    """The fields by the names of their keys."""
    return [(field.alias or name, field) for name, field in model.model_fields.items()]


def _value(field: Any) -> Any:
    return field.get_default(call_default_factory=True)


def _default(field: Any) -> str:
    if field.is_required():
        return ""
    value = _value(field)
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):  # blocks
        value = [{"name": dict(block)["name"]} for block in value]
    return f"`{brief(plain(value))}`"


def _line(field: Any) -> str:
    return " ".join(field.description.split())


def test_configuration_md_has_every_key() -> None:
    _, mark, written = CONFIGURATION.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"{CONFIGURATION} has no line {MARK!r}"
    assert written.strip() == reference().strip(), "run: python -m tests.test_reference"


def agents() -> str:
    """README's table of agents, in Markdown."""
    heading, *rows = (list(row) for row in matrix())
    names = *heading[1:-2], heading[-1]
    heading = [f"`{name}`" if name in names else name for name in heading]
    lines = [heading, ["---"] * len(heading), *([f"`{name}`", *rest] for name, *rest in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_readme_has_every_agent() -> None:
    tables = AGENTS.findall(README.read_text(encoding="utf-8"))
    assert tables == [agents()], "run: python -m tests.test_reference"


def documented() -> set[str]:
    """The metrics in the tables of docs/metrics.md."""
    return set(re.findall(r"^\| `([\w/]+)`", METRICS.read_text(encoding="utf-8"), re.MULTILINE))


def test_metrics_md_has_every_metric_that_the_code_names_and_no_other() -> None:
    named = {
        node.value
        for folder in ("agents", "training")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(rf"{KIND}/[a-z_\d]+", node.value)
    }
    measured = [name for name in named if name.startswith("evaluate/")]
    at_end = {name.replace("evaluate", end) for name in measured for end in ("best", "final")}
    assert documented() == named | at_end | {"steps"}


@pytest.mark.parametrize("agent", REWARDED)
def test_metrics_md_has_every_metric_that_a_run_logs(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"agent={agent}", "network=mlp", *action_words(claimed(agent)[0])]
    words += ["eval.interval_steps=500", "eval.episodes=1"]
    if "learning_starts" in dict(load(words).agent):
        words.append("agent.learning_starts=100")
    words += ["eval.final_episodes=1", "log_interval_steps=100", "wandb.mode=disabled"]
    run = train(*words, total_steps=600)
    lines = (run.dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = {key for line in lines for key in json.loads(line)}
    assert {"final/return", "evaluate/return", "steps"} < logged <= documented()


if __name__ == "__main__":
    text, mark, _ = CONFIGURATION.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        sys.exit(f"{CONFIGURATION} has no line {MARK!r}, below which the tables are written")
    CONFIGURATION.write_text(f"{text}{mark}\n{reference()}", encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(AGENTS.sub(lambda _: agents(), readme), encoding="utf-8")
