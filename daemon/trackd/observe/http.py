"""Metrics and health over HTTP, on a thread of its own."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from trackd.observe.health import Health
from trackd.observe.metrics import Metrics
from trackd.observe.token import TokenGuard
from trackd_client.configuration import ConfigError

_MAX_CONNECTIONS = 64
_REQUEST_S = 5.0  # from the connection to its first whole request


def make_app(metrics: Metrics, health: Health, token: str | None = None) -> Starlette:
    """Return the HTTP application; where a token is given, requests need it."""

    def scrape(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def healthz(_: Request) -> Response:
        return _verdict(health.fault())

    def readyz(_: Request) -> Response:
        return _verdict(health.unready())

    middleware = [] if token is None else [Middleware(TokenGuard, token=token)]
    routes = [Route("/metrics", scrape), Route("/healthz", healthz), Route("/readyz", readyz)]
    return Starlette(routes=routes, middleware=middleware)


def _verdict(fault: str | None) -> Response:
    return JSONResponse({"ok": fault is None, "reason": fault}, status_code=200 if fault is None else 503)


class _Protocol(H11Protocol):
    """HTTP/1.1 with a limited number of connections; one without a request is closed after a timeout."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.made = self.loop.time()
        self._timeout = self.loop.call_later(_REQUEST_S, self._close_if_idle)
        others = [c for c in self.connections if isinstance(c, _Protocol) and c is not self]
        idle = [c for c in others if c.cycle is None and not c.transport.is_closing()]
        if len(others) >= _MAX_CONNECTIONS and idle:  # the new connection may be a health check: close the oldest
            min(idle, key=lambda c: c.made)._close_if_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._timeout.cancel()  # it would keep what was received for its time

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class HttpServer:
    """Serves an application at `host:port`, which `access.endpoints.check_http` has checked, until it is stopped.

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
        config = uvicorn.Config(
            app,
            http=_Protocol,
            backlog=_MAX_CONNECTIONS,
            timeout_keep_alive=5,
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve requests until `stop`."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return."""
        self._server.should_exit = True

    @property
    def started(self) -> bool:
        """Whether requests are served."""
        return self._server.started
