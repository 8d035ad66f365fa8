"""The HTTP side: metrics and health, on a thread of its own."""

from __future__ import annotations

import socket

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trackd.observe.health import Health
from trackd.observe.metrics import Metrics
from trackd_client.configuration import ConfigError


def make_app(metrics: Metrics, health: Health) -> Starlette:
    """The HTTP application."""

    def scrape(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def healthz(_: Request) -> Response:
        return _verdict(health.fault())

    def readyz(_: Request) -> Response:
        return _verdict(health.unready())

    return Starlette(routes=[Route("/metrics", scrape), Route("/healthz", healthz), Route("/readyz", readyz)])


def _verdict(fault: str | None) -> Response:
    return JSONResponse({"ok": fault is None, "reason": fault}, status_code=200 if fault is None else 503)


class HttpServer:
    """Serves an application at `host:port` until stopped; `sockets.check_http` has checked the address.

    Raises:
        ConfigError: the address cannot be bound.
    """

    def __init__(self, address: str, app: Starlette) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, int(port)))
        except OSError as error:
            self._socket.close()
            why = "the port is in use" if error.errno == 98 else error.strerror
            raise ConfigError(f"daemon.http cannot be bound: {why}; got {address!r}") from None
        bound = self._socket.getsockname()
        self.address = f"{bound[0]}:{bound[1]}" if ":" not in bound[0] else f"[{bound[0]}]:{bound[1]}"
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=5)
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """The thread's life."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Have `run` return."""
        self._server.should_exit = True

    @property
    def started(self) -> bool:
        """Whether requests are served."""
        return self._server.started
