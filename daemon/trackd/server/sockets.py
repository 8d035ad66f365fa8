"""Binding the daemon's sockets; with the SDK's connections, the only code that speaks zmq."""

from __future__ import annotations

import ipaddress
import logging
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

import zmq

from trackd.config import Config
from trackd.server.access.curve import Security
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_LINGER_MS = 1000
_HEARTBEAT_MS = 2000
_BACKLOG = 512
_HANDSHAKE_MS = 5000
_SUBSCRIPTION_BYTES = 4096  # a topic has at most 137; a handshake's metadata some hundreds
_WAITING_REPLIES = 256  # to a control client that does not read; each may be as large as `history` makes it
_REBIND_S = 1.0
_REBIND_POLL_S = 0.002


class Sockets:
    """The three bound sockets.

    Args:
        config: endpoints, limits and security.
        context: shared with in-process clients of `inproc://` endpoints.
        security: protects the sockets; None without CURVE.

    Raises:
        ConfigError: an endpoint that cannot or must not be bound.
    """

    def __init__(
        self, config: Config, context: zmq.Context[zmq.Socket[bytes]], security: Security | None = None
    ) -> None:
        endpoints = config.daemon.endpoints
        self._security = security
        self._open: list[zmq.Socket[bytes]] = []
        self._tracks_address = ""
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
        # A subscriber sends no more than topics; each byte of one costs the trie some fifty.
        most = config.limits.message_bytes if kind == zmq.ROUTER else _SUBSCRIPTION_BYTES
        bound.setsockopt(zmq.MAXMSGSIZE, most)
        bound.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        if name == "control":
            bound.setsockopt(zmq.SNDHWM, _WAITING_REPLIES)
        bound.setsockopt(zmq.BACKLOG, _BACKLOG)
        bound.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        bound.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * _HEARTBEAT_MS)
        if kind == zmq.ROUTER:
            bound.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if self._security is not None:
            self._security.protect(bound, name)
            if kind == zmq.XPUB:
                bound.setsockopt(zmq.XPUB_MANUAL, 1)
        if endpoint.startswith("ipc://"):
            _make_folder(name, endpoint, config)
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

    def rebind_tracks(self) -> bool:
        """Close all connections of `tracks`, and take new ones at the same address; False where it must be tried again.

        Subscribers come back by themselves, and are asked for their keys anew.
        """
        address = self._tracks_address = self._tracks_address or self.address("tracks")
        with suppress(zmq.ZMQError):  # unbound already, by an attempt that failed
            self.tracks.unbind(address)
        deadline = time.monotonic() + _REBIND_S
        while time.monotonic() < deadline:
            # The old listener goes in the background, and holds its port for a moment.
            with suppress(zmq.ZMQError):
                self.tracks.bind(address)
                logger.warning("tracks: all subscribers were made to come again")
                return True
            time.sleep(_REBIND_POLL_S)
        logger.error("tracks: %s cannot be bound again; trying on", address)
        return False

    def close(self) -> None:
        """Close all; messages under way get a second."""
        for bound in self._open:
            bound.close()


def check_endpoint(name: str, endpoint: str, config: Config) -> None:
    """Refuse what would let anybody in: a bind beyond loopback without CURVE, unless the configuration asks for it."""
    if config.security.curve:
        if endpoint.startswith("inproc://"):
            raise ConfigError(f"daemon.endpoints.{name}: inproc knows no keys; security.curve needs tcp:// or ipc://")
        if endpoint.startswith("ipc://*"):
            # ZeroMQ removes such a file when its listener has gone: after the next one was bound there.
            raise ConfigError(
                f"daemon.endpoints.{name}: with security.curve an ipc address needs a path; got {endpoint!r}"
            )
        return
    if config.security.insecure:
        return
    if endpoint.startswith("ipc://@"):
        raise ConfigError(
            f"daemon.endpoints.{name}: an abstract ipc address is open to everybody on this machine, and needs "
            f"security.curve or security.insecure; got {endpoint!r}"
        )
    if not endpoint.startswith("tcp://"):
        return
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if not is_loopback(host):
        raise ConfigError(
            f"daemon.endpoints.{name} must be on loopback or ipc while security.curve is false, "
            f"unless security.insecure is true; got {endpoint!r}"
        )


def check_http(address: str, config: Config) -> None:
    """Refuse an HTTP bind beyond loopback without a token, unless the configuration asks for it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"daemon.http must be host:port or null; got {address!r}")
    guarded = config.security.insecure or config.security.http_token_file is not None
    if not guarded and not is_loopback(host.strip("[]")):
        raise ConfigError(
            "daemon.http must be on loopback, unless security.http_token_file names a token or security.insecure is "
            f"true; got {address!r}"
        )


def _make_folder(name: str, endpoint: str, config: Config) -> None:
    """Make an ipc socket's folder: who gets into it may connect, so it is the daemon's user's alone."""
    path = endpoint.removeprefix("ipc://")
    if path.startswith(("*", "@")):
        return
    folder = Path(path).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"daemon.endpoints.{name}: {folder} cannot be made: {error.strerror}") from None
    open_to_others = status.st_mode & 0o077 or status.st_uid != os.geteuid()
    if open_to_others and not (config.security.curve or config.security.insecure):
        raise ConfigError(
            f"daemon.endpoints.{name}: without security.curve the folder of an ipc socket must be the daemon's user's "
            f"alone, mode 0700; got {stat.S_IMODE(status.st_mode):04o} of uid {status.st_uid} for {str(folder)!r}"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name stands for this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def confirmed_key(frame: zmq.Frame) -> str:
    """The public key of a message's sender; "" where no key was asked for."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
