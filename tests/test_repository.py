"""What holds for the repository as a whole: who imports whom, sizes, versions, links."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neuraxis.envs.errors import EXTRAS

ROOT = Path(__file__).parents[1]
IMPORTS: dict[str, set[str]] = {
    "networks": set(),
    "envs": set(),
    "agents": {"networks", "envs"},
    "configs": {"networks", "envs", "agents"},
    "training": {"networks", "envs", "agents", "configs"},
}
MODULES = [file for package in IMPORTS for file in sorted((ROOT / package).glob("*.py"))]
LONGEST_MODULE = 300  # lines; the aim is 200
SUPPRESSIONS = 5
SETUP = ("Makefile", "constraints.txt", "pyproject.toml", ".ci/run", ".pre-commit-config.yaml")
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRA = PROJECT["project"]["optional-dependencies"]


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Each import of a module: how many packages up it starts (0: absolute), and its first name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield node.level, name.partition(".")[0]


def test_imports_point_one_way() -> None:
    for file in MODULES:
        for level, name in imports(file):
            if level == 2:
                assert name in IMPORTS[file.parent.name], f"{file} imports {name}"
            else:
                assert level == 1 or name not in {*IMPORTS, "neuraxis"}, f"{file}: use `from ..`"


def test_modules_are_short() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_bytes().splitlines()) for file in MODULES}
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_suppressions_are_few() -> None:
    pattern = re.compile(r"# (type: ignore|noqa|pragma: no cover|pyright: ignore)")
    files = [*MODULES, *ROOT.glob("tests/*.py"), *ROOT.glob("benchmarks/*.py")]
    found = [file for file in files for _ in pattern.finditer(file.read_text(encoding="utf-8"))]
    assert len(found) <= SUPPRESSIONS, found


@pytest.mark.parametrize("name", SETUP)
def test_the_set_up_takes_packages_from_where_the_machine_says(name: str) -> None:
    assert not re.search(r"://|index", (ROOT / name).read_text(encoding="utf-8"))


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    groups = [PROJECT["project"]["dependencies"], *EXTRA.values()]
    for requirement in (Requirement(line) for group in groups for line in group):
        if requirement.name != "neuraxis":
            pin = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin), requirement


def test_the_extras_that_errors_advise_exist() -> None:
    assert set(EXTRAS.values()) <= EXTRA.keys()


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", file.read_text(encoding="utf-8")):
        assert "://" in target or (file.parent / target).exists(), target
