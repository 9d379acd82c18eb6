"""Law 11: every command and every Python block that README.md, CONTRIBUTING.md and docs/ show runs.

Each document, a notebook too, runs from top to bottom in its own folder. The language of a block
decides how:

    sh       each line is a command, or `for NAME in VALUES; do COMMAND; done`
    console  a line that begins with `$ ` is a command, which prints the lines below it; numbers
             may differ
    python   runs; all blocks of a document share their names
    yaml     is valid
    text     contains no command

A Python or YAML block below a line that is only a file's name (`my_package/my_agent.py`) is written
to that file. `neuraxis ...` runs its entry point in this process, but shortened: total_steps is
SHORT_STEPS, also where the command does not set it; agents with a replay learn after 300 steps,
episodes end after SHORT_EPISODE_STEPS and evaluations play SHORT_EPISODES, unless the command sets
them; W&B is disabled unless the command sets `wandb.*`. `wandb` and `wandb.mode=online` use the
server of `wandb_server`; ENTITY and SWEEP in a command are replaced by its entity and its newest
sweep. What cannot run here is only checked: `make` (a dry run), `pip install` (its extras), `python
FILE` (compiles), `ray` (its options, and the words for `neuraxis`), `docker` (the words), `kubectl`
(its file), `tensorboard` (there are event files).
"""

import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import torch

from neuraxis.configs import load
from neuraxis.configs.groups import GROUPS
from neuraxis.configs.text import parse
from neuraxis.training.cli import main

from .wandb_server import ENTITY, Server, command_line, serving

ROOT = Path(__file__).parents[1]
PAGES = *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*.ipynb"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
SHORT_STEPS = {"train": "600", "baseline": "600", "resume": "1_500", "sweep": "600"}
FREE = "agent.kwargs.", "env.kwargs.", "sweep.parameters."
SHORT_EPISODES, SHORT_EPISODE_STEPS = "2", "100"
FENCED = re.compile(r"(?:^`([\w./-]+)`:?\n\n?)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOOP = re.compile(r"for (\w+) in ([^;]+); do (.+); done")
NUMBER = re.compile(r"\d[\d,._]*(?:e[-+]?\d+)?")


class Block(NamedTuple):
    """A fenced block: the file it is written to, its language, text and first line."""

    file: str | None
    language: str
    text: str
    line: int


def text_of(document: Path) -> str:
    """A document as Markdown; of a notebook the cells, without what they have printed."""
    text = document.read_text(encoding="utf-8")
    if document.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{s}\n```" if kind == "code" else s for kind, s in cells)


def blocks(document: Path) -> Iterator[Block]:
    text = text_of(document)
    for found in FENCED.finditer(text):
        file, language, body = found.groups()
        yield Block(file, language, body, text.count("\n", 0, found.start(3)) + 1)


def inline(document: Path) -> list[str]:
    """The texts between single backticks."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", text_of(document)))


class Reader:
    """Does what a document says, in the current folder."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        server: Server,
    ) -> None:
        self.server = server
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def follow(self, block: Block, place: str) -> None:
        if block.file is not None:
            assert block.language in ("python", "yaml")
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self.execute(block, place)
        elif block.language == "sh":
            for line in block.text.replace("\\\n", "").splitlines():
                self.command(line)
        elif block.language == "console":
            for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                line, _, output = shown.partition("\n")
                assert form(self.command(line)) == form(output)
        elif block.language == "yaml":
            assert parse(block.text)
        else:
            assert block.language == "text"
            assert not re.search(r"^(\$|neuraxis|make|pip|python)\s", block.text, re.MULTILINE)

    def execute(self, block: Block, place: str) -> None:
        text = re.sub(r"\btotal_steps=[\d_]+", f"total_steps={SHORT_STEPS['train']}", block.text)
        code = compile("\n" * (block.line - 1) + text, place, "exec")
        with self.monkeypatch.context() as patch:
            patch.syspath_prepend(".")
            exec(code, self.names)

    def command(self, line: str) -> str:
        """Runs a command line and returns what it printed."""
        if loop := LOOP.fullmatch(line):
            name, values, body = loop.groups()
            return "".join(self.command(body.replace(f"${name}", v)) for v in values.split())
        program, *words = shlex.split(line, comments=True) or [""]
        if program == "neuraxis":
            return self.neuraxis(short(words))
        if program == "make":
            subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True)
        elif program == "pip":
            extras = re.findall(r"\[([\w,]+)\]", line)
            known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            known = known["project"]["optional-dependencies"]
            assert words[0] == "install" and {*",".join(extras).split(",")} <= {"", *known}
        elif program == "wandb":
            self.wandb(words)
        elif program == "python":
            compile((ROOT / words[0]).read_text(encoding="utf-8"), words[0], "exec")
        elif program == "ray":
            ray(words)
        elif program == "tensorboard":
            assert words[0] == "--logdir" and any(Path(words[1]).rglob("*.tfevents.*"))
        elif program == "docker":
            assert words_for_neuraxis(words) or words == ["build", "--tag", "neuraxis:0.1.0", "."]
        elif program == "kubectl":
            assert words[0] != "create" or (ROOT / words[-1]).exists()
        elif program == "source":
            assert words == [".venv/bin/activate"], "make setup builds no other environment"
        else:
            assert not program, f"{line}: this test does not know how to run the command"
        return ""

    def wandb(self, words: list[str]) -> None:
        """Runs W&B's own command line; its agent of sweeps is run in test_wandb only."""
        sweep = next(reversed(self.server.sweeps), "")
        if words[0] == "agent":
            assert sweep and words[-1] == "ENTITY/sweeps/SWEEP"
            return
        words = [word.replace("ENTITY", ENTITY).replace("SWEEP", sweep) for word in words]
        globs = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
        assert all(globs), f"{words}: no file of this name"
        command_line(*itertools.chain(*globs))

    def neuraxis(self, words: list[str]) -> str:
        self.capsys.readouterr()
        with self.monkeypatch.context() as patch, pytest.raises(SystemExit) as ending:
            patch.setattr(sys, "argv", ["neuraxis", *words])
            patch.setattr(sys, "path", [*sys.path])
            patch.setenv("SDL_VIDEODRIVER", "dummy")  # for windows
            main.main()
        out, err = self.capsys.readouterr()
        assert ending.value.code == 0, f"neuraxis {shlex.join(words)}: {err}"
        return out


def words_for_neuraxis(words: list[str]) -> list[str]:
    """Those that another program, or its image, hands on to `neuraxis train`; checks them."""
    found = re.search(r"neuraxis(:\S+)? train (.*)", " ".join(words))
    ours = found[2].split() if found else []
    assert not ours or load(ours)
    return ours


def ray(words: list[str]) -> None:
    """Checks that Ray has the command and its options, and neuraxis the words it runs there."""
    from ray.scripts.scripts import cli as command  # a second, and for one document only

    ours = words_for_neuraxis(words)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    if not ours:
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options, words


def short(words: list[str]) -> list[str]:
    """The words of a `neuraxis` command, shortened as the module's docstring says."""
    name, *words = words
    steps = f"total_steps={SHORT_STEPS.get(name)}"
    words = [steps if word.startswith("total_steps=") else word for word in words]
    missing = {
        "train": {
            "total_steps=": [steps],
            "eval.final_episodes=": [f"eval.final_episodes={SHORT_EPISODES}"],
            "env.time_limit=": [f"env.time_limit={SHORT_EPISODE_STEPS}"],
            "wandb.": ["wandb.mode=disabled"],
        },
        "evaluate": {"--episodes": ["--episodes", SHORT_EPISODES]},
    }
    missing["baseline"] = missing["train"]
    missing["import"] = {key: more for key, more in missing["train"].items() if "steps" not in key}
    if learns_late(words):
        missing["train"]["agent.learning_starts="] = ["agent.learning_starts=300"]
    if name == "sweep" and "--resume" not in words:
        missing["sweep"] = missing["train"]
    for opening, more in missing.get(name, {}).items():
        if not any(word.startswith(opening) for word in words):
            words += more
    return [name, *words]


def learns_late(words: list[str]) -> bool:
    """Whether the agent of a command collects steps before it learns."""
    chosen = [word for word in words if re.fullmatch(r"(agent|experiment)=\w+", word)]
    return "learning_starts" in dict(load(chosen).agent)


def form(text: str) -> list[list[str]]:
    """The words of each line, with N for each number."""
    return [NUMBER.sub("N", line).split() for line in text.splitlines()]


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder. Modules imported from it are removed again afterwards."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def server() -> Iterator[Server]:
    """A W&B server, with a key for it in the environment."""
    with serving() as server:
        yield server


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_all_that_is_shown_runs(
    document: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: Server,
) -> None:
    reader = Reader(monkeypatch, capsys, server)
    for block in blocks(document):
        reader.follow(block, str(document))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_keys_and_commands_in_sentences_exist(document: Path) -> None:
    configuration = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    keys = {*GROUPS, "sweep", *re.findall(r"^\| `([\w.]+)`", configuration, re.MULTILINE)}
    for text in inline(document):
        program, *words = text.split()
        if program == "neuraxis" and words:
            assert words[0] in main.neuraxis.commands, text
            options = {o for p in main.neuraxis.commands[words[0]].params for o in p.opts}
            assert {word for word in words if word.startswith("-")} <= options, text
        for key in re.findall(r"(?:^|\s)([a-z]\w*(?:\.\w+)*)=", text):
            key = re.sub(r"\.\d+\.", ".N.", key)
            assert key in keys or key.startswith(FREE), text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_files_in_sentences_exist(document: Path) -> None:
    written = {block.file for block in blocks(document)}
    for text in inline(document):
        if re.fullmatch(r"\w+(/\w+)+\.(py|md|yaml)", text) and "NAME" not in text:
            assert text in written or (ROOT / text).exists(), text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_to_headings(document: Path) -> None:
    text = FENCED.sub("", text_of(document))
    for target, anchor in re.findall(r"\]\(([^):#\s]*)#([^)\s]+)\)", text):
        file = document.parent / target if target else document
        headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings]
        assert anchor in slugs, f"{target}#{anchor}"


def test_every_room_is_named_with_files_that_are_there() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    extending = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w/]+)` \| .* \| .* \|$", contributing, re.MULTILINE)
    details = extending.partition("## Rooms and their files")[2]
    rows = dict(re.findall(r"^\| `([\w/]+)` \| (.*) \|$", details, re.MULTILINE))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = known["tool"]["setuptools"]["packages"]
    rooms = {name.partition(".")[2].replace(".", "/") for name in packages if name != "neuraxis"}
    assert rows.keys() == rooms == {*named} and len(named) == len(rooms)
    for room, line in rows.items():
        for name in re.findall(r"`(\w+)/?`", line):
            place = ROOT / room / name
            assert place.is_dir() or place.with_suffix(".py").exists(), f"{room}: {name}"


def test_the_checklist_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "checklist.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!detail|---).*", text, re.MULTILINE)
    assert rows
    for row in rows:
        named = re.findall(r"`(\w+)::(\w+)`", row)
        assert named or "| Deviation: " in row, row
        for file, name in named:
            text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"\ndef test_{name}(" in text, f"{file}::{name}"


def test_the_two_commands_come_first() -> None:
    first = next(blocks(ROOT / "README.md")).text
    assert re.findall(r"^make \w+", first, re.MULTILINE) == ["make train", "make test"]
    assert load() == load(["agent=ppo", "env=CartPole-v1", "network=mlp"]), "README names these"
