"""Metrics and health over HTTP, on a thread of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import h11
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from trackd.observe.health import Health
from trackd.observe.metrics import Metrics
from trackd.observe.token import TokenGuard
from trackd_client.configuration import ConfigError

_MAX_CONNECTIONS = 64
_SOCKET_BYTES = 262_144  # of the kernel's buffer: what a slow page gets late
_MESSAGE_BYTES = 65_536  # from a page
_END_S = 1.0  # from the end of a page to that of its connection
_SHUTDOWN_S = 3  # for the connections that are open at the end
_REQUEST_S = 5.0  # from the connection to its first whole request


def make_app(metrics: Metrics, health: Health, token: str | None = None, viewer: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the HTTP application; where a token is given, requests need it.

    Args:
        metrics: for scrapes.
        health: of the daemon.
        token: None: none is needed.
        viewer: the routes of the viewer; none where it is off.
    """

    def scrape(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def healthz(_: Request) -> Response:
        return _verdict(health.fault())

    def readyz(_: Request) -> Response:
        return _verdict(health.unready())

    middleware = [] if token is None else [Middleware(TokenGuard, token=token)]
    routes = [Route("/metrics", scrape), Route("/healthz", healthz), Route("/readyz", readyz), *viewer]
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

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._timeout.cancel()  # the connection belongs to another protocol from here on
        super().handle_websocket_upgrade(event)

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Socket(WebSocketsSansIOProtocol):
    """A WebSocket that never keeps more than one message to send, and that ends whatever its page does."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # `writable` is set while all is in the kernel's buffer
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)

    async def send(self, message: Any) -> None:
        await super().send(message)
        await self.writable.wait()  # a frame counts as unsent until then

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(_END_S, self.transport.abort)  # a close waits for a page that reads nothing

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(_END_S, self.transport.abort)


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
            ws=_Socket,
            ws_max_size=_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # pictures are compressed already
            timeout_graceful_shutdown=_SHUTDOWN_S,
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
