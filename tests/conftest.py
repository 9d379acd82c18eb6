"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def ray_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of Ray's token, apart from the person's own; a process reads it only once."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("ray") / "token"
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        yield path
