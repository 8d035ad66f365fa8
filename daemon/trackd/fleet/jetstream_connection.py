"""One connection to the NATS servers of a fleet, and the requests that the store makes on it."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError

from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import AwayError
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

REQUEST_S = 1.0  # until a request is taken as lost
_CONNECT_S = 3.0
_RECONNECT_S = 0.2  # between two attempts at one server
# A cut link is noticed after two to three of these: the third is due while two are not answered.
_PING_S = 0.7
_MAX_PINGS = 2
_WRONG_SEQUENCE = (10071, 10164)
_BATCH_BYTES = 8_000_000
EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class RefusedError(AwayError):
    """The servers refused a request; `code` is JetStream's number of the reason."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the servers refuse it: {text} (JetStream error {code})")
        self.code = code
        self.text = text


class WrongSequenceError(Exception):
    """The last message of a subject is not the one that a message expects."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a JetStream stream."""

    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes


class Connection:
    """Connects, and stays connected: after a cut it tries all servers again, for ever.

    Args:
        settings: of the fleet.
        name: as the servers show the connection.
    """

    def __init__(self, settings: FleetSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._connected = asyncio.Event()
        self._trouble = "no server answers"

    # --- its life ---

    async def ready(self, timeout_s: float = REQUEST_S) -> Client:
        """Return the client once it is connected.

        Raises:
            ConfigError: a file that the settings name cannot be used.
            AwayError: no server can be reached within the time.
        """
        async with self._connecting:
            # The library gives up after some errors of a server, such as a refused authorization.
            if self._client is None or self._client.is_closed:
                await self._connect(max(timeout_s, _CONNECT_S))
        assert self._client is not None
        if not self._client.is_connected:
            try:
                await asyncio.wait_for(self._connected.wait(), timeout_s)
            except TimeoutError:
                raise AwayError(self._unreachable()) from None
        return self._client

    async def close(self) -> None:
        """Close the connection; a later `ready` opens another one."""
        client, self._client = self._client, None
        self._connected.clear()
        if client is not None:
            try:
                await asyncio.wait_for(client.close(), REQUEST_S)
            except (Error, OSError, TimeoutError) as error:
                logger.debug("the connection to the fleet's servers ended with an error: %s", error)

    async def _connect(self, timeout_s: float) -> None:
        client = Client()
        options: dict[str, Any] = {
            "servers": list(self._settings.servers),
            "name": self._name,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_connected,
            "connect_timeout": 1.0,
            "reconnect_time_wait": _RECONNECT_S,
            "max_reconnect_attempts": -1,
            "ping_interval": _PING_S,
            "max_outstanding_pings": _MAX_PINGS,
            **self._security(),
        }
        try:
            await asyncio.wait_for(client.connect(**options), timeout_s)
        except (Error, OSError, TimeoutError) as error:
            if not isinstance(error, TimeoutError):
                self._trouble = str(error)
            await client.close()
            raise AwayError(self._unreachable()) from None
        self._client = client
        await self._on_connected()

    def _security(self) -> dict[str, Any]:
        settings, options = self._settings, dict[str, Any]()
        for name in ("credentials", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(settings, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"daemon.fleet.{name}: there is no file {path!r}")
        if settings.credentials is not None:
            if importlib.util.find_spec("nkeys") is None:
                raise ConfigError("daemon.fleet.credentials needs the package nkeys: pip install 'nats-py[nkeys]'")
            options["user_credentials"] = settings.credentials
        if settings.tls_ca is not None or settings.tls_cert is not None or self.wants_tls:
            try:
                context = ssl.create_default_context(cafile=settings.tls_ca)
                if settings.tls_cert is not None:
                    context.load_cert_chain(settings.tls_cert, settings.tls_key)
            except OSError as error:  # of which SSLError is one
                raise ConfigError(f"daemon.fleet: the TLS files cannot be used: {error}") from None
            options["tls"] = context
        return options

    @property
    def wants_tls(self) -> bool:
        """Whether the settings ask for TLS."""
        settings = self._settings
        return settings.tls_ca is not None or any(server.startswith("tls://") for server in settings.servers)

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the connected server says of itself; empty before the first connection."""
        return dict(self._client._server_info) if self._client is not None else {}

    @property
    def max_payload(self) -> int:
        """The bytes of the largest message that the connected server takes, with its headers."""
        return int(self._client.max_payload) if self._client is not None else 0

    def _unreachable(self) -> str:
        return f"{', '.join(self._settings.servers)}: {self._trouble}"

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if text != self._trouble:
            logger.debug("the connection to the fleet's servers: %s", text)
        self._trouble = text

    async def _on_connected(self) -> None:
        self._connected.set()

    async def _on_disconnected(self) -> None:
        self._connected.clear()

    # --- requests ---

    async def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, timeout_s: float = REQUEST_S
    ) -> Msg:
        """Send a request once and return its reply.

        Raises:
            AwayError: nobody answered within the time. The request may have been executed, or may still be.
        """
        deadline = time.monotonic() + timeout_s
        client = await self.ready(timeout_s)
        left = max(deadline - time.monotonic(), 0.05)
        try:
            return await client.request(subject, data, timeout=left, headers=dict(headers) if headers else None)
        except NoRespondersError:
            raise AwayError("no server is responsible now: they have no majority, or choose a leader") from None
        except TimeoutError:
            raise AwayError(f"no answer within {timeout_s:g} s") from None
        except (Error, OSError) as error:
            raise AwayError(str(error) or type(error).__name__) from None

    async def api(
        self, verb: str, request: Mapping[str, Any] | None = None, timeout_s: float = REQUEST_S
    ) -> dict[str, Any]:
        """Call JetStream's API and return its reply.

        Raises:
            RefusedError: JetStream answered with an error.
            AwayError: nobody answered within the time.
        """
        data = json.dumps(request).encode() if request is not None else b""
        reply = await self.request(f"$JS.API.{verb}", data, timeout_s=timeout_s)
        return _checked(reply.data)

    async def publish(
        self, subject: str, data: bytes, expected: int, headers: Mapping[str, str], timeout_s: float = REQUEST_S
    ) -> int:
        """Store a message once; return its sequence.

        Args:
            subject: of a JetStream stream.
            data: of the message.
            expected: the sequence of the subject's last message; 0: there is none.
            headers: further ones.
            timeout_s: until the message is taken as lost.

        Raises:
            WrongSequenceError: the subject's last message is another one.
            AwayError: it is not known whether the message is stored.
        """
        reply = await self.request(subject, data, {**headers, EXPECTED: str(expected)}, timeout_s)
        try:
            return int(_checked(reply.data)["seq"])
        except RefusedError as error:
            if error.code in _WRONG_SEQUENCE:
                raise WrongSequenceError(error.text) from None
            raise

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the last message of a subject, as the stream's leader has it; None: there is none."""
        return await self._get(stream, {"last_by_subj": subject})

    async def batch(self, stream: str, subject: str, first: int, most: int, wait_s: float = 1.0) -> list[StoredMessage]:
        """Return the first messages of a subject at a sequence or later, in order, by one request.

        Any server with a copy answers. A copy that is behind has fewer messages, but none is missing between others.

        Args:
            stream: of JetStream.
            subject: may have wildcards.
            first: the lowest sequence.
            most: number of messages; fewer are returned also where they have more than 8 MB in total.
            wait_s: for each message.

        Raises:
            AwayError: nobody answered within the time.
        """
        client = await self.ready()
        request = json.dumps({"seq": max(first, 1), "next_by_subj": subject, "batch": most, "max_bytes": _BATCH_BYTES})
        found: list[StoredMessage] = []
        try:
            waiting = await client.subscribe(inbox := client.new_inbox(), pending_bytes_limit=-1)
            try:
                await client.publish(f"$JS.API.DIRECT.GET.{stream}", request.encode(), reply=inbox)
                while True:
                    message = await waiting.next_msg(timeout=wait_s)
                    headers = message.headers or {}
                    sequence = headers.get("Nats-Sequence")
                    if sequence is None:  # the end of the batch, or an error in the header Status
                        return found
                    found.append(StoredMessage(headers["Nats-Subject"], int(sequence), headers, message.data))
            finally:
                await waiting.unsubscribe()
        except (Error, TimeoutError, OSError) as error:
            raise AwayError(f"no answer to a read of {stream}: {error or type(error).__name__}") from None

    async def _get(self, stream: str, request: Mapping[str, Any]) -> StoredMessage | None:
        try:
            message = (await self.api(f"STREAM.MSG.GET.{stream}", request))["message"]
        except RefusedError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise
        return StoredMessage(
            message["subject"],
            int(message["seq"]),
            _headers(base64.b64decode(message.get("hdrs", ""))),
            base64.b64decode(message.get("data", "")),
        )


_NO_MESSAGE = 10037


def _checked(data: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(data)
        error = reply.get("error")
    except (ValueError, AttributeError):
        raise AwayError(f"the servers' answer is not of JetStream: {data[:60]!r}") from None
    if error:
        raise RefusedError(int(error.get("err_code", 0)), str(error.get("description", "no reason given")))
    return dict(reply)


def _headers(raw: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in raw.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers
