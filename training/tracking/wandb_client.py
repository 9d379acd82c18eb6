"""W&B's client: how it is imported, whether it can be used, what it raises."""

from __future__ import annotations

import atexit
import netrc
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from ...core.errors import RunError, require
from ...core.files import expanded
from ..storage import layout, provenance

INIT_SECONDS = 15.0
"""How long W&B may take to answer at first; a dead server takes all of it."""
TIMEOUT_SECONDS = 30
"""How long an answer may take when nothing else waits for it."""

FOLDERS = ("WANDB_CACHE_DIR", "WANDB_DATA_DIR")
"""W&B's variables for what it keeps in the home folder: its log, and artifacts on their way."""


def import_wandb() -> None:
    """Imports W&B, which then says nothing on the terminal and sends no reports of its errors."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    if FOLDERS[0] not in os.environ and not _has_cache():  # else it logs on the terminal
        folder = tempfile.mkdtemp(prefix="wandb-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name in FOLDERS:
            os.environ.setdefault(name, folder)
    import wandb  # noqa: F401


def _has_cache() -> bool:
    """Whether W&B's process finds a folder for its log where it looks for one."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ["HOME"], ".cache")
        logs = os.path.join(cache, "wandb", "logs")
        os.makedirs(logs, exist_ok=True)
    except (KeyError, OSError):
        return False
    return os.access(logs, os.W_OK)


def check_access(purpose: str) -> None:
    """Raises ValueError if W&B is not installed, or finds no key."""
    require(purpose, "wandb")
    if not has_key():
        raise ValueError("no W&B API key found: `wandb login` or WANDB_API_KEY sets one")


def place(folder: Path) -> Path:
    """Where W&B keeps its files of a run: in $WANDB_DIR, otherwise in the run's folder."""
    return expanded(os.environ.get("WANDB_DIR") or folder).resolve()


def begun(folder: Path) -> bool:
    """Whether W&B has files of the run already. Raises RunError if meta.json is damaged."""
    run = f"*run-*-{provenance.identified(folder)['wandb_id']}"
    return any(place(folder).glob(f"{layout.WANDB}/{run}"))


def why_unavailable() -> str | None:
    """Why W&B cannot be used: no API key, a wrong one, or a server that does not answer.

    To be asked before a run begins online: an id that has failed to do so cannot be used offline.
    """
    if not has_key():
        return "no API key found, `wandb login` sets one"
    import wandb

    try:
        wandb.Api(timeout=int(INIT_SECONDS))
    except wandb.Error as error:
        return reason_of(error)
    return None


def failures() -> tuple[type[Exception], ...]:
    """What W&B raises when server, network, disk or its own process fail."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    return (wandb.Error, WandbApiFailedError, OSError, *_service_failures())


def _service_failures() -> tuple[type[Exception], ...]:
    """What W&B raises when its own process, wandb-core, has died."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return (ConnectionError, MailboxClosedError, HandleAbandonedError)


def drop_dead_service(error: Exception) -> None:
    """Ends W&B's client if its process has died; else it prints a traceback when Python ends."""
    import wandb

    if isinstance(error, _service_failures()):
        with suppress(*failures()):
            wandb.teardown()


def reason_of(error: Exception) -> str:
    """The failure in one line."""
    return " ".join((str(error) or type(error).__name__).split())


def has_key() -> bool:
    """Whether W&B would find a key without asking: it would prompt on a terminal, else fail."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    own = os.environ.get("NETRC")
    for path in [own] if own else ["~/.netrc", "~/_netrc"]:
        try:
            if netrc.netrc(expanded(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


@contextmanager
def answering(selection: str) -> Iterator[None]:
    """Turns what W&B's client raises into one line that names the selection."""
    require(selection, "wandb")
    import_wandb()
    try:
        yield
    except ValueError as error:  # no such project
        raise ValueError(f"{selection}: {error}") from error
    except failures() as error:
        drop_dead_service(error)
        raise RunError(f"{selection}: W&B: {reason_of(error)}") from error
