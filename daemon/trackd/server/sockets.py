"""Binding the daemon's sockets; with the SDK's connections, the only code that speaks zmq."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path

import zmq

from trackd.config import Config
from trackd_client.configuration import ConfigError
from trackd_client.protocol.arrays import Part

logger = logging.getLogger(__name__)

_LINGER_MS = 1000
_HEARTBEAT_MS = 2000
_BACKLOG = 512
_COPY_BELOW = 65_536  # bytes; handing a small part over costs more than copying it


class Sockets:
    """The three bound sockets.

    Args:
        config: endpoints, limits and security.
        context: shared with in-process clients of `inproc://` endpoints.

    Raises:
        ConfigError: an endpoint that cannot or must not be bound.
    """

    def __init__(self, config: Config, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        endpoints = config.daemon.endpoints
        self._open: list[zmq.Socket[bytes]] = []
        try:
            self.ingest = self._bind(context, zmq.ROUTER, "ingest", endpoints.ingest, config)
            self.tracks = self._bind(context, zmq.XPUB, "tracks", endpoints.tracks, config)
            self.control = self._bind(context, zmq.ROUTER, "control", endpoints.control, config)
        except BaseException:
            self.close()
            raise

    def _bind(
        self, context: zmq.Context[zmq.Socket[bytes]], kind: int, name: str, endpoint: str, config: Config
    ) -> zmq.Socket[bytes]:
        check_endpoint(name, endpoint, config)
        bound: zmq.Socket[bytes] = context.socket(kind)
        self._open.append(bound)
        bound.linger = _LINGER_MS
        bound.setsockopt(zmq.MAXMSGSIZE, config.limits.message_bytes)
        bound.setsockopt(zmq.BACKLOG, _BACKLOG)
        bound.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        bound.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MS)
        if kind == zmq.ROUTER:
            bound.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if endpoint.startswith("ipc://"):
            Path(endpoint.removeprefix("ipc://")).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            bound.bind(endpoint)
        except zmq.ZMQError as error:
            why = "the port is in use" if error.errno == zmq.EADDRINUSE else (error.strerror or str(error))
            raise ConfigError(f"daemon.endpoints.{name} cannot be bound: {why}; got {endpoint!r}") from None
        return bound

    def address(self, name: str) -> str:
        """Where a socket is bound, with the port that a wildcard got."""
        bound: zmq.Socket[bytes] = getattr(self, name)
        return bound.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def close(self) -> None:
        """Close all; messages under way get a second."""
        for bound in self._open:
            bound.close()


def check_endpoint(name: str, endpoint: str, config: Config) -> None:
    """Refuse what would let anybody in: a tcp bind beyond loopback, unless the configuration asks for it."""
    if not endpoint.startswith("tcp://") or config.security.insecure:
        return
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if not is_loopback(host):
        raise ConfigError(
            f"daemon.endpoints.{name} must be on loopback or ipc while security.curve is false, "
            f"unless security.insecure is true; got {endpoint!r}"
        )


def check_http(address: str, config: Config) -> None:
    """Refuse an HTTP bind beyond loopback, unless the configuration asks for it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"daemon.http must be host:port or null; got {address!r}")
    if not config.security.insecure and not is_loopback(host.strip("[]")):
        raise ConfigError(f"daemon.http must be on loopback, unless security.insecure is true; got {address!r}")


def is_loopback(host: str) -> bool:
    """Whether an address or name stands for this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def receive(socket: zmq.Socket[bytes], max_parts: int) -> list[memoryview] | None:
    """The parts of the next message, None where there is none.

    Parts beyond `max_parts` are read and let go one by one: a message of a million parts costs no memory here.
    """
    try:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    parts = [frame.buffer]
    while frame.more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        if len(parts) < max_parts:
            parts.append(frame.buffer)
    return parts


def send(socket: zmq.Socket[bytes], parts: Sequence[Part]) -> bool:
    """Send without waiting; False where the peer is gone or does not read."""
    last = len(parts) - 1
    try:
        for place, part in enumerate(parts):
            flags = zmq.NOBLOCK | (zmq.SNDMORE if place < last else 0)
            socket.send(part, flags, copy=len(part) < _COPY_BELOW)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return False
    return True
