"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from neuraxis.configs.variables import DISABLED, VARIABLES


@pytest.fixture(scope="session", autouse=True)
def no_wandb_variables() -> Iterator[None]:
    """A person's own settings of W&B are not those of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*VARIABLES, DISABLED, "WANDB_DIR"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_terminal() -> Iterator[None]:
    """Readline, which pytest imports, tells child processes of a terminal that is not there."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the key that signs runs, apart from the person's own."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("config")
        patch.setenv("XDG_CONFIG_HOME", str(path))
        yield path


@pytest.fixture(scope="session", autouse=True)
def ray_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of Ray's token, apart from the person's own; a process reads it only once."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("ray") / "token"
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        yield path
