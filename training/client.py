"""W&B's client: what it is told, whether it can be had, how it fails."""

from __future__ import annotations

import netrc
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

INIT_SECONDS = 15.0
"""How long W&B may take to answer at first; a dead server takes all of it."""


def import_wandb() -> None:
    """Imports W&B, which then says nothing on the terminal and sends no reports of its errors."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb  # noqa: F401


def obstacle() -> str | None:
    """Why W&B cannot be had: no API key, a wrong one, or a server that does not answer.

    Asked before a run is begun online: one that fails then keeps its id from being used offline.
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

    return (wandb.Error, WandbApiFailedError, OSError, *_deaths())


def _deaths() -> tuple[type[Exception], ...]:
    """What W&B raises when its own process, wandb-core, has died."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return (ConnectionError, MailboxClosedError, HandleAbandonedError)


def forget(error: Exception) -> None:
    """Has W&B forget its process if that has died: it would print a traceback when Python ends."""
    import wandb

    if isinstance(error, _deaths()):
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
    for path in [Path(own)] if own else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
