"""Ray for whoever needs it: rollout workers, learners and sweeps share one connection.

    ray_cluster.set_environment()          before the first import of Ray
    ray_cluster.start(cfg.ray, cpus=8)     starts Ray here or joins the cluster, at the first call
    ray_cluster.stop()                     one for each start; the last one ends Ray or leaves

Token authentication is always on, a dashboard comes only if it is asked for, nothing is reported to
anyone and Ray's own log stays in its files. Ray is imported only where it is needed: a run without
it starts faster.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import secrets
import shutil
import socket
import sys
import textwrap
from pathlib import Path
from typing import Any

from ...configs.sections import RayConfig
from ...configs.words import spoken
from ...core.errors import one_line
from ...core.files import private_key
from ...core.secret_values import is_secret, take

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray prints a paragraph for each process that died; the pool reports it in one line.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # Workers without a GPU of their own see none, and Ray does not warn that this will change.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Ray's own 15 leaves workers 3 % of a core beside busy processes: to start took 6 minutes.
    "RAY_worker_niceness": "0",
}
_log = logging.getLogger(__name__)
_users = 0  # calls of `start` without their `stop`, if Ray was started or joined here
_session: str | None = None  # where the Ray that was started here keeps its logs and sockets


def set_environment() -> None:
    """Sets what Ray reads when it is imported, or when it starts its processes.

    Raises:
        ValueError: Authentication is switched off.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ValueError(f"RAY_AUTH_MODE={mode}: Ray runs with its tokens only; unset it")
    for key, value in ENVIRONMENT.items():
        # an imported Ray has tokens by default, unless the variable is set
        if key != "RAY_AUTH_MODE" or "ray" not in sys.modules:
            os.environ.setdefault(key, value)


def set_secrets(config: RayConfig) -> None:
    """Sets in a worker's process the variables that Ray would write into its logs: secrets."""
    os.environ.update(_variables(config, secret=True))


def _variables(config: RayConfig, secret: bool) -> dict[str, str]:
    """The workers' variables that are secrets by their name, or the others."""
    variables = config.runtime_env.get("env_vars")
    if not isinstance(variables, dict):  # Ray says what it expects
        return {}
    return {name: value for name, value in variables.items() if is_secret(name) == secret}


def start(config: RayConfig, cpus: float = 0) -> None:
    """Starts Ray or joins a cluster, unless this process has done so already.

    Args:
        config: Where to, and the environment of the workers.
        cpus: Processors that the actors will reserve. A Ray that is started here offers so many
            even if the machine has fewer, because environments that wait can share processors.

    Raises:
        ValueError: There is no such cluster, it does not know our token, authentication is off, or
            a secret is missing, or Ray refuses the workers' environment or has no dashboard.
    """
    global _users
    set_environment()
    import ray

    if not _users and ray.is_initialized():  # in a trial of a sweep, which ends Ray itself
        return
    if not _users:
        found = os.environ.get("RAY_ADDRESS")
        address = config.address or found
        if address is None:
            protect_token()
        environment = _environment(config)
        word = "ray.address" if config.address or not found else "$RAY_ADDRESS"
        if config.dashboard:
            _check_dashboard(address and f"{word}={address}")
        try:
            _connect(address, environment, cpus, config.dashboard)
        except ValueError as error:
            raise ValueError(f"{word}={address or 'null'}: {error}") from error
    _users += 1


def stop() -> None:
    """Ends the use of Ray; the last user leaves the cluster, or ends the Ray that was started.

    What that has left in its folder goes with it.
    """
    global _users
    if _users:
        _users -= 1
        if not _users:
            import ray

            ray.shutdown()
            if _session is not None:
                shutil.rmtree(_session, ignore_errors=True)


def protect_token() -> None:
    """Makes the token file, readable by its owner only, or takes others' right to read it away.

    Ray would write it with the rights that every new file has. Where the home folder cannot be
    written, only this process and those that it starts know the token. Raises OSError.
    """
    if "RAY_AUTH_TOKEN" in os.environ:
        return
    own = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        private_key(Path(own) if own else Path.home() / ".ray" / "auth_token")
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        if own:
            raise
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _environment(config: RayConfig) -> dict[str, Any]:
    """What Ray is told of the workers' environment: all but the secrets. Raises ValueError."""
    from ray.runtime_env import RuntimeEnv

    take(config.runtime_env, "ray.runtime_env")
    told: dict[str, Any] = config.runtime_env
    if _variables(config, secret=True):
        told = told | {"env_vars": _variables(config, secret=False)}
    try:
        RuntimeEnv(**told)
    except (TypeError, ValueError) as error:
        given = spoken("ray.runtime_env", config.runtime_env).text
        raise ValueError(f"ray.runtime_env={given}: {one_line(error)}") from error
    return told


def _check_dashboard(cluster: str | None) -> None:
    """Says that a cluster has its own. Raises ValueError if packages are missing for one here."""
    if cluster:
        _log.warning("ray.dashboard=true has no effect with %s, which has its own or none", cluster)
        return
    try:
        importlib.import_module("ray.dashboard.optional_deps")
    except ImportError as error:
        raise ValueError(
            f"ray.dashboard=true: {error.name} is not installed; pip install 'ray[default]'"
        ) from error


def _connect(
    address: str | None, environment: dict[str, Any], cpus: float, dashboard: bool
) -> None:
    """Connects to the cluster at `address`, or starts a Ray of this process's own."""
    global _session
    import ray
    from ray.exceptions import RayError

    if address not in (None, "auto", "local"):
        check_reachable(address)
    own: dict[str, Any] = {
        "num_cpus": max(os.cpu_count() or 1, math.ceil(cpus)),
        "include_dashboard": dashboard,
        "dashboard_host": "127.0.0.1",
    }
    try:
        joined: Any = ray.init(
            address=address or "local",
            runtime_env=environment or None,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else own),
        )
    except (OSError, RayError, RuntimeError, ValueError) as error:
        ray.shutdown()
        reason = textwrap.shorten(one_line(error), 400, placeholder=" ...")
        hint = "; give it a short folder, RAY_TMPDIR=/tmp" if "AF_UNIX" in reason else ""
        raise ValueError(reason + hint) from error
    if dashboard and not address:
        _log.warning(
            "Ray's dashboard: http://%s (token: `ray get-auth-token`)", joined.dashboard_url
        )
    _session = joined.address_info["session_dir"] if address in (None, "local") else None


def check_reachable(address: str) -> None:
    """Raises ValueError if nothing listens at HOST:PORT; Ray would try without end."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"nobody answers there ({error})") from error
