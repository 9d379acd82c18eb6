"""Weights & Biases as a mirror of metrics.jsonl: offline, late or absent, it never stops training.

Offline needs neither account nor network; `wandb sync RUN/wandb/offline-run-*` uploads it later.
"""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import wandb

    from ..configs.config import WandbConfig

_log = logging.getLogger(__name__)

# Without the flush interval a killed process loses 15 s of rows; without the timeouts a dead server
# holds the start for 90 s and the end for ever (the data stays on disk).
_SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "reinit": "create_new",
    "disable_code": True,
    "disable_git": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 1.0,
    "init_timeout": 30.0,
    "finish_timeout": 60.0,
}


class Tracker:
    """One W&B run; does nothing in mode `disabled`, and nothing more after W&B's first failure.

    Args:
        config: mode, project, group and tags.
        folder: the run's folder; W&B writes into `wandb/` there.
        run_id: W&B's id; the same one continues the run after `neuraxis resume`.
        name: shown for the run.
        settings: the run's configuration, as JSON values.
    """

    def __init__(
        self, config: WandbConfig, folder: Path, run_id: str, name: str, settings: Mapping[str, Any]
    ) -> None:
        self._run: wandb.Run | None = None
        if config.mode == "disabled":
            return
        mode = config.mode
        if mode == "online" and not _has_key():
            _log.warning(
                "wandb.mode=online: no API key found, going on offline; `wandb login` sets one"
            )
            mode = "offline"
        common = {"project": config.project, "group": config.group, "tags": list(config.tags)}
        options = {
            **common,
            "dir": str(folder),
            "id": run_id,
            "name": name,
            "config": dict(settings),
        }
        self._start(mode, options)
        if self._run is None and mode == "online":
            self._start("offline", options)

    def _start(self, mode: Literal["online", "offline"], options: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported
        with self._guard(f"{mode} start"):
            import wandb

            known = {k: v for k, v in _SETTINGS.items() if k in wandb.Settings.model_fields}
            run = wandb.init(**options, mode=mode, resume="allow", settings=wandb.Settings(**known))
            run.define_metric("steps")
            run.define_metric("*", step_metric="steps")
            self._run = run

    def log(self, row: Mapping[str, float]) -> None:
        """Sends one row of metrics, `steps` among them."""
        if self._run is not None:
            with self._guard("log"):
                self._run.log(dict(row))

    def finish(self, summary: Mapping[str, Any], failed: bool = False) -> None:
        """Ends the W&B run with its summary; a second call does nothing."""
        run, self._run = self._run, None
        if run is not None:
            with self._guard("finish"):
                run.summary.update(dict(summary))
                run.finish(exit_code=int(failed))

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Says W&B's failure in one line and turns the mirror off."""
        import wandb
        from wandb.sdk.mailbox import MailboxClosedError  # wandb-core died; no wandb.Error

        try:
            yield
        except (wandb.Error, MailboxClosedError, OSError) as error:
            self._run = None
            reason = (str(error) or type(error).__name__).splitlines()[0]
            _log.warning(
                "wandb: %s failed (%s); training goes on, metrics.jsonl is whole", what, reason
            )


def _has_key() -> bool:
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
