"""The newest metrics of a run, at an address where Prometheus asks for them."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping
from typing import Any

from ...configs.sections import PrometheusConfig
from ...core.errors import require
from ..callbacks import Callback
from ..storage.run import Run

_log = logging.getLogger(__name__)


class PrometheusTracker(Callback):
    """Serves the newest value of each metric, from a thread, while the run trains.

    Args:
        config: Where.

    Raises:
        ValueError: The client of Prometheus is not installed, or the port cannot be had.
    """

    def __init__(self, config: PrometheusConfig) -> None:
        assert config.port is not None
        self._port, self._address = config.port, config.address
        key = f"prometheus.port={self._port}"
        require(key, "prometheus_client")
        try:
            found = socket.getaddrinfo(self._address, self._port, type=socket.SOCK_STREAM)
            with socket.socket(found[0][0]) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                probe.bind(found[0][4])
        except OSError as error:
            raise ValueError(
                f"{key}: cannot listen at prometheus.address={self._address} ({error.strerror}); "
                "expected a free port"
            ) from error
        self._server: Any = None

    def on_start(self, run: Run) -> None:
        """Begins to serve; at once what a resumed run has logged."""
        from prometheus_client import CollectorRegistry, start_http_server

        labels = {"run": run.dir.name, "agent": run.cfg.agent.name, "env": run.cfg.env.id}
        self._labels, self._gauges = labels, dict[str, Any]()
        self._registry = CollectorRegistry()
        self.on_log(run, {**run.latest, "steps": run.steps})
        try:
            self._server, _ = start_http_server(self._port, self._address, self._registry)
        except OSError as error:  # somebody has taken it since
            _log.warning("prometheus.port=%d: %s; the run goes on", self._port, error.strerror)

    def on_log(self, run: Run, row: Mapping[str, float]) -> None:
        """Takes over the row."""
        from prometheus_client import Gauge

        for name, value in row.items():
            shown = f"neuraxis_{re.sub('[^a-zA-Z0-9_]', '_', name)}"
            if shown not in self._gauges:
                gauge = Gauge(shown, name, self._labels, registry=self._registry)
                self._gauges[shown] = gauge.labels(**self._labels)
            self._gauges[shown].set(value)

    def on_end(self, run: Run, status: str) -> None:
        """Gives the port back."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
