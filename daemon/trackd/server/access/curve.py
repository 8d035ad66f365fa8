"""CURVE on the daemon's sockets: a thread that answers ZeroMQ's authentication requests (ZAP).

Three checks protect the daemon, one behind the other. ZeroMQ asks this thread about each key before it accepts a
message from it; with `ZAP_ENFORCE_DOMAIN` it admits no connection while the thread does not answer. Each message
carries the key that was confirmed, and the daemon looks that key up again: the messages of a removed key are refused.
And each request is compared with the grant of its key.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from trackd.config import SecurityConfig, at
from trackd.server.access.grants import Grant, Right
from trackd.server.access.keyring import Keyring
from trackd_client.configuration import ConfigError
from trackd_client.transport.curve import KeyFileError, secret_pair

logger = logging.getLogger(__name__)

ZAP_ADDRESS = "inproc://zeromq.zap.01"
_REFRESH_S = 0.25  # between two reads of the folder of keys; a stop may take as long
_LOG_S = 1.0  # between two log lines about refusals: a client that tries in a loop must not fill the disk
_HANDSHAKE_MS = 3_000  # until then ZeroMQ holds in memory what an unauthenticated connection sends
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
Count = Callable[[str], None]


class Security:
    """Keys, grants, and the thread that admits or refuses connections.

    Args:
        config: names the server's secret key file and the folder of clients.
        context: the context of the sockets to protect: ZAP is answered once in each context.
        count: called with the reason of each refusal.
        base: the folder that relative paths are tried against first.

    Raises:
        ConfigError: a file or the folder cannot be used.
    """

    def __init__(
        self, config: SecurityConfig, context: zmq.Context[zmq.Socket[bytes]], count: Count, base: Path | None = None
    ) -> None:
        assert config.server_secret_key_file is not None  # the configuration has checked both
        assert config.authorized_clients_dir is not None
        try:
            self.public_key, self._secret_key = secret_pair(at(config.server_secret_key_file, base))
        except KeyFileError as error:
            raise ConfigError(f"security.server_secret_key_file: {error}") from None
        try:
            self._keyring = Keyring(at(config.authorized_clients_dir, base))
        except KeyFileError as error:
            raise ConfigError(f"security.authorized_clients_dir: {error}") from None
        if not self._keyring.grants:
            logger.warning(
                "security.authorized_clients_dir: %s is empty, so no client is admitted", self._keyring.folder
            )
        self._count = count
        self._stopping = threading.Event()
        self._monitors: list[zmq.Socket[bytes]] = []
        self._unlogged, self._log_at = 0, 0.0
        self._banned: frozenset[str] = frozenset()
        self._zap: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._zap.linger = 0
        try:
            self._zap.bind(ZAP_ADDRESS)
        except zmq.ZMQError:
            self._zap.close()
            raise ConfigError("security.curve: this ZeroMQ context has an authenticator already; use another") from None

    @property
    def grants(self) -> Mapping[str, Grant]:
        """The current grants, by public key."""
        return self._keyring.grants

    @property
    def narrowed(self) -> int:
        """How often a key has lost a right to read."""
        return self._keyring.narrowed

    def protect(self, bound: zmq.Socket[bytes], domain: str) -> None:
        """Make a socket accept CURVE only. Call this before the socket is bound, and before `run`."""
        bound.curve_server = 1
        bound.curve_secretkey = self._secret_key
        bound.setsockopt_string(zmq.ZAP_DOMAIN, domain)
        # Without this option ZeroMQ admits any key while nothing answers on ZAP_ADDRESS.
        bound.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        bound.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        self._monitors.append(bound.get_monitor_socket(_FAILED))

    def ban(self, key: str) -> None:
        """Refuse a key on `tracks` for as long as this daemon runs."""
        self._banned |= {key}

    def refused(self, reason: str, detail: str) -> None:
        """Count and log a refusal. Any thread may call this."""
        self._count(reason)
        now = time.monotonic()
        if now < self._log_at:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} refusals before it)" if self._unlogged else ""
        self._unlogged, self._log_at = 0, now + _LOG_S
        logger.warning("refused, %s: %s%s", reason, detail, more)

    # --- the thread ---

    def run(self) -> None:
        """Answer authentication requests until `stop`."""
        poller = zmq.Poller()
        for source in (self._zap, *self._monitors):
            poller.register(source, zmq.POLLIN)
        refresh_at = time.monotonic() + _REFRESH_S
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(int(_REFRESH_S * 1000)))
                if self._zap in ready:
                    self._answer(self._zap.recv_multipart())
                for monitor in self._monitors:
                    if monitor in ready:
                        event = recv_monitor_message(monitor)
                        detail = f"no key, not this daemon's key, or no ZeroMQ; {_event_text(event)}"
                        self.refused("handshake", detail)
                if time.monotonic() >= refresh_at:
                    refresh_at = time.monotonic() + _REFRESH_S
                    self._keyring.refresh()
        finally:
            self.close()

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()

    def close(self) -> None:
        """Close the sockets. `run` does so itself when it ends."""
        for own in (self._zap, *self._monitors):
            own.close(linger=0)

    def _answer(self, request: list[bytes]) -> None:
        """Answer one ZAP request (ZeroMQ RFC 27): version, id, domain, address, routing id, mechanism, credentials."""
        request_id = request[1] if len(request) > 1 else b""
        grant: Grant | None = None
        if len(request) == 7 and request[0] == b"1.0" and request[5] == b"CURVE":
            domain, address = request[2].decode(), request[3].decode(errors="replace")
            grant = self._admit(z85.encode(request[6]).decode(), domain, address)
        # 400 is final: ZeroMQ reports it to the client, and the client's socket does not reconnect.
        status, text, key = (b"200", b"OK", grant.key) if grant is not None else (b"400", b"not authorized", "")
        self._zap.send_multipart([b"1.0", request_id, status, text, key.encode(), b""])

    def _admit(self, key: str, domain: str, address: str) -> Grant | None:
        grant = self.grants.get(key)
        if grant is None:
            self.refused("unknown_key", f"key {key} from {address} at {domain}")
            return None
        # The other two sockets answer a request without the right to it; `tracks` has no way to answer.
        if domain == "tracks" and (Right.SUBSCRIBE not in grant.rights or key in self._banned):
            self.refused("no_permission", f"key {grant.name!r} from {address} may not subscribe")
            return None
        return grant


def _event_text(event: Mapping[str, Any]) -> str:
    return f"{event['event'].name.lower()} {event['value']:#x} at {event['endpoint'].decode(errors='replace')}"
