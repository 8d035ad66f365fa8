"""The messages of all streams of a client over one connection, without locks and waits.

The drivers (`driver.py` for threads, `async_driver.py` for asyncio) decide when a turn is taken, and wait between them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from trackd_client.protocol import REPLY_LIMITS, Error, ErrorCode, Message, Ping, Pong, ProtocolError, decode, encode
from trackd_client.sending.clock import Clock
from trackd_client.sending.session import StreamSession
from trackd_client.transport.connection import Connection

logger = logging.getLogger(__name__)

RETRY_S = 0.25  # between two attempts to reconnect
REFUSED_RETRY_S = 1.0  # the same if the daemon refuses the client's key
READ_S = 0.001  # between two reads of the socket while nothing waits for a message


class Exchange:
    """Sends and receives for all streams of one client.

    Attributes:
        sessions: the streams by name.
        connection: to the daemon.
        clock: the daemon's clock, as far as it is measured.
        round_trip_s: of the last ping; None before its answer.
        sent_at: when the last message was sent, monotonic seconds.
        pinged_at: the same of the last ping.
    """

    def __init__(self, connection: Connection) -> None:
        self.sessions: dict[str, StreamSession] = {}
        self.connection = connection
        self.clock = Clock()
        self.round_trip_s: float | None = None
        self._retry_at = 0.0
        self._read_at = self.sent_at = self.pinged_at = time.monotonic()

    def turn(self, now: float, *, read: bool = True, until: Callable[[], Any] | None = None) -> bool:
        """Handle all received messages and send all messages that may be sent; reconnect where it is due.

        Args:
            now: monotonic seconds.
            read: read the socket. If false, read it only if the last read is `READ_S` ago: a read is a system call,
                which is expensive while frames are sent in quick succession.
            until: stop reading once this is true; the next read handles the rest.

        Returns:
            Whether a message was received.
        """
        if self.connection.disconnected and now >= self._retry_at:
            refusal = self.connection.refusal
            logger.warning(
                "endpoint=%s: %s; the client reconnects", self.connection.endpoint, refusal or "connection lost"
            )
            self.connection.reconnect()
            for session in self.sessions.values():
                session.disconnected()
            self.sent_at = now
            self._send(now, may_retry=True)
            self._retry_at = now + (REFUSED_RETRY_S if refusal else RETRY_S)
        received = False
        if read or now - self._read_at >= READ_S:
            self._read_at = now
            while (parts := self.connection.receive()) is not None:
                received = True
                self._handle(parts)
                if until is not None and until():
                    break
        self._send(now, may_retry=now >= self._retry_at)
        return received

    @property
    def retry_due(self) -> bool:
        """Whether something must be retried soon without waiting for a message."""
        return self.connection.disconnected or any(s.retry_due for s in self.sessions.values())

    def ping(self) -> None:
        """Send a ping. Its answer is a new sample of `clock`."""
        self.sent_at = self.pinged_at = time.monotonic()
        self.connection.send(encode(Ping(time.time_ns())))

    def _handle(self, parts: list[bytes]) -> None:
        try:
            message: Message = decode(parts, REPLY_LIMITS)
        except ProtocolError as error:
            logger.warning("endpoint=%s: cannot read a message: %s", self.connection.endpoint, error)
            return
        if isinstance(message, Pong):
            now_ns = time.time_ns()
            self.round_trip_s = (now_ns - message.t_ns) / 1e9
            self.clock.add_sample(message.t_ns, message.daemon_t_ns, now_ns)
            return
        self._receive(message)

    def _receive(self, message: Message) -> None:
        """Pass a message on to its session."""
        if isinstance(message, Error) and message.code is ErrorCode.STREAM_BUSY and not message.fatal:
            # ZeroMQ may have reconnected by itself. The daemon then sees a new connection that does not own the
            # stream. If the monitor reports the loss, ignore the error: the next `pump` reconnects and takes over.
            self.connection.check()
            if self.connection.disconnected:
                return
        if isinstance(message, Error) and message.code is ErrorCode.FORBIDDEN and message.stream is None:
            # The daemon no longer accepts this client's key. Every stream of the client ends.
            for each in self.sessions.values():
                each.receive(message)
            return
        session = self.sessions.get(getattr(message, "stream", None) or "")
        if session is None:
            logger.info(
                "endpoint=%s: %s for a stream that is not open: %r", self.connection.endpoint, message.kind, message
            )
            return
        session.receive(message)
        if session.retry_due:
            # An immediate retry would be refused too.
            self._retry_at = time.monotonic() + RETRY_S

    def _send(self, now: float, *, may_retry: bool) -> None:
        for session in self.sessions.values():
            if session.retry_due:
                if not may_retry:
                    continue
                session.retry()
            for parts in session.outgoing():
                self.connection.send(parts)
                self.sent_at = now
