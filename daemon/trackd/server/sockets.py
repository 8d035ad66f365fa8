"""The daemon's three sockets: how they are bound, and the key of a message's sender."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import zmq

from trackd.config import Config
from trackd.server.access.curve import Security
from trackd.server.access.endpoints import make_folder
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_LINGER_MS = 1000
_HEARTBEAT_MS = 2000
_BACKLOG = 512
_HANDSHAKE_MS = 5000
_SUBSCRIPTION_BYTES = 4096  # a topic has at most 137 bytes; the metadata of a handshake has some hundreds
_WAITING_REPLIES = 256  # to a control client that does not read; each may be as large as a `history` reply
_REBIND_S = 1.0
_REBIND_POLL_S = 0.002


class Sockets:
    """The three bound sockets.

    Args:
        config: endpoints that `check_addresses` has checked, limits and security.
        context: shared with in-process clients of `inproc://` endpoints.
        security: protects the sockets; None without CURVE.

    Raises:
        ConfigError: an endpoint cannot be bound.
    """

    def __init__(
        self, config: Config, context: zmq.Context[zmq.Socket[bytes]], security: Security | None = None
    ) -> None:
        endpoints = config.daemon.endpoints
        self._security = security
        self._open: list[zmq.Socket[bytes]] = []
        self._tracks_address = ""
        make_folder("ingest", endpoints.ingest, config)
        make_folder("tracks", endpoints.tracks, config)
        make_folder("control", endpoints.control, config)
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
        bound: zmq.Socket[bytes] = context.socket(kind)
        self._open.append(bound)
        bound.linger = _LINGER_MS
        # A subscriber sends topics only. Each byte of a topic costs about 50 bytes in ZeroMQ's trie.
        max_bytes = config.limits.message_bytes if kind == zmq.ROUTER else _SUBSCRIPTION_BYTES
        bound.setsockopt(zmq.MAXMSGSIZE, max_bytes)
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
        try:
            bound.bind(endpoint)
        except zmq.ZMQError as error:
            why = "the port is in use" if error.errno == zmq.EADDRINUSE else (error.strerror or str(error))
            raise ConfigError(f"daemon.endpoints.{name} cannot be bound: {why}; got {endpoint!r}") from None
        return bound

    def address(self, name: str) -> str:
        """The address of a bound socket, with the port that replaced a wildcard."""
        bound: zmq.Socket[bytes] = getattr(self, name)
        return bound.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def tracks_address(self) -> str:
        """The address of `tracks`, also while it is bound again."""
        self._tracks_address = self._tracks_address or self.address("tracks")
        return self._tracks_address

    def rebind_tracks(self) -> bool:
        """Close all connections of `tracks` and bind it again at the same address.

        ZeroMQ reconnects the subscribers, and the daemon checks their keys again.

        Returns:
            False where the address could not be bound within a second; call again then.
        """
        address = self.tracks_address()
        with suppress(zmq.ZMQError):  # an earlier attempt has unbound it, and failed after that
            self.tracks.unbind(address)
        deadline = time.monotonic() + _REBIND_S
        while time.monotonic() < deadline:
            # ZeroMQ closes the old listener in the background; until then the port is in use.
            with suppress(zmq.ZMQError):
                self.tracks.bind(address)
                logger.warning("tracks: all subscribers were disconnected and have to reconnect")
                return True
            time.sleep(_REBIND_POLL_S)
        logger.error("tracks: %s cannot be bound again; the next attempt follows in a second", address)
        return False

    def close(self) -> None:
        """Close all sockets. ZeroMQ has a second to send what is queued."""
        for bound in self._open:
            bound.close()


def confirmed_key(frame: zmq.Frame) -> str:
    """The public key of a message's sender; "" without CURVE."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""
