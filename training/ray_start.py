"""Ray for whoever needs it: rollout workers, learners and sweeps share one connection.

    ray_start.set_environment()          before the first import of Ray
    ray_start.start(cfg.ray, cpus=8)     starts Ray here or joins the cluster; the first call counts
    ray_start.stop()                     each start has its stop; the last one ends what was begun

Token authentication is always on, there is no dashboard, nothing is reported to anyone and Ray's
own log stays in its files. Ray is imported here and nowhere before: a run without it does not wait
for it.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import sys
import textwrap
from pathlib import Path
from typing import Any

from ..configs.sections import RayConfig
from ..envs.errors import one_line

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray prints a paragraph for each process that died; the pool says what is to be said.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Workers without a GPU of their own see none, and Ray does not warn that this will change.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
_shares = 0  # starts without their stop, if Ray was begun here


def set_environment() -> None:
    """Sets what Ray reads when it is imported, and never again: to be called before.

    Raises:
        ValueError: Authentication is switched off.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ValueError(f"RAY_AUTH_MODE={mode}: Ray runs with its tokens only; unset it")
    if "ray" not in sys.modules:  # later, tokens are its own default, unless the variable is set
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)


def start(config: RayConfig, cpus: float = 0) -> None:
    """Starts Ray or joins a cluster, unless this process has done so already.

    Args:
        config: Where to, and the environment of the workers.
        cpus: That the actors will ask for; a Ray started here has as many, even if the machine has
            fewer, for environments that wait share processors well.

    Raises:
        ValueError: There is no such cluster, it does not know our token, or authentication is off.
    """
    global _shares
    set_environment()
    import ray

    if not _shares and ray.is_initialized():  # a trial of a sweep: whoever began it ends it
        return
    if not _shares:
        found = os.environ.get("RAY_ADDRESS")
        address = config.address or found
        if address is None:
            protect_token()
        word = "ray.address" if config.address or not found else "$RAY_ADDRESS"
        try:
            _connect(address, config, cpus)
        except ValueError as error:
            raise ValueError(f"{word}={address or 'null'}: {error}") from error
    _shares += 1


def stop() -> None:
    """Gives back a share; the last one leaves the cluster, or ends the Ray that was started."""
    global _shares
    if _shares:
        _shares -= 1
        if not _shares:
            import ray

            ray.shutdown()


def protect_token() -> None:
    """Makes the token file, readable by its owner only, or takes others' right to read it away.

    Ray would write it with the rights that every new file has. Raises OSError.
    """
    if "RAY_AUTH_TOKEN" in os.environ:
        return
    own = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(own) if own else Path.home() / ".ray" / "auth_token"
    if path.exists():
        path.chmod(0o600)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        if not path.exists():
            os.link(temporary, path)
    except FileExistsError:  # another run was faster: its token is everybody's
        pass
    finally:
        temporary.unlink()


def _connect(address: str | None, config: RayConfig, cpus: float) -> None:
    """Connects to the cluster at `address`, or starts a Ray of this process's own."""
    import ray
    from ray.exceptions import RayError

    if address not in (None, "auto", "local"):
        knock(address)
    own: dict[str, Any] = {
        "num_cpus": max(os.cpu_count() or 1, math.ceil(cpus)),
        "include_dashboard": False,
    }
    try:
        ray.init(
            address=address or "local",
            runtime_env=config.runtime_env or None,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else own),
        )
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        ray.shutdown()
        reason = textwrap.shorten(one_line(error), 400, placeholder=" ...")
        raise ValueError(reason) from error


def knock(address: str) -> None:
    """Raises ValueError if nothing listens at HOST:PORT; Ray would try without end."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"nobody answers there ({error})") from error
