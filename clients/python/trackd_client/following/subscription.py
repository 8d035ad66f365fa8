"""A SUB socket for what the daemon publishes about streams. Messages may be missing.

`gap_filler.py` fills the gaps in tracks.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

import zmq

from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import REPLY_LIMITS, ErrorCode, Event, Message, ProtocolError, decode, topic
from trackd_client.transport.connection import NOT_AUTHORIZED, Context, set_socket_options
from trackd_client.transport.curve import CurveKeys
from trackd_client.transport.multipart import receive_parts

logger = logging.getLogger(__name__)

RECEIVE_MESSAGES = 4096  # the queue of a slow reader; messages beyond it are lost, and `history` has them
SLICE_S = 0.1  # the longest time for which a reader holds the lock, so that `close` can get it


class Places(Protocol):
    """Where the streams of a subscription are published, if they may move from one daemon to another."""

    def start(self, connect: Callable[[str], None], disconnect: Callable[[str], None]) -> None:
        """Use these functions for the socket; each gets an endpoint."""

    def follow(self, stream: str) -> None:
        """Connect to the daemon of one more stream."""

    def heard(self, message: Message) -> None:
        """Handle a message that was received."""

    def check(self) -> None:
        """Handle what is overdue; called at least each `SLICE_S`."""


class Subscription:
    """A SUB socket on some topics. One thread at a time may iterate; any thread may call `close`.

    Args:
        context: the ZeroMQ context.
        endpoint: of the daemon; None: `places` connects the socket.
        streams: the streams' names, for errors.
        topics: to subscribe to.
        timeout_s: how long the iterator waits; None: without a limit.
        keys: the CURVE keys, or None.
        places: follows the streams from daemon to daemon; None: they do not move.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str | None,
        streams: tuple[str, ...],
        topics: tuple[bytes, ...],
        timeout_s: float | None,
        keys: CurveKeys | None,
        places: Places | None = None,
    ) -> None:
        self.streams = streams
        self.closed = False
        self._endpoint = endpoint or "the fleet"
        self._places = places
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._socket = context.socket(zmq.SUB)
        set_socket_options(self._socket, endpoint or "tcp://", keys)
        self._monitor: zmq.Socket[bytes] | None = None
        if keys is not None:
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_MESSAGES)
        self._receive_timeout_ms = -1  # the socket's RCVTIMEO; -1: no limit
        self.received_ns = 0  # when the last message was read from the socket, by `time.monotonic_ns`
        self._subscribe(*topics)
        if endpoint is not None:
            self._socket.connect(endpoint)
        if places is not None:
            places.start(self._connect, self._disconnect)

    def close(self) -> None:
        """End the iteration and close the socket."""
        self.closed = True
        with self._lock:
            if self._monitor is not None:
                self._socket.disable_monitor()
                self._monitor.close(linger=0)
                self._monitor = None
            self._socket.close(linger=0)

    def _subscribe(self, *topics: bytes) -> None:
        with self._lock:
            if self.closed:
                return
            for name in topics:
                self._socket.setsockopt(zmq.SUBSCRIBE, name)

    def _connect(self, endpoint: str) -> None:
        with self._lock:
            if self.closed:
                return
            try:
                self._socket.connect(endpoint)
            except zmq.ZMQError as error:
                logger.warning("endpoint=%s: cannot be used: %s", endpoint, error)

    def _disconnect(self, endpoint: str) -> None:
        with self._lock:
            if not self.closed:
                with suppress(zmq.ZMQError):  # it could not be connected
                    self._socket.disconnect(endpoint)

    def _receive(self, timeout_s: float) -> Message | None:
        """Return the next valid message, or None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not self.closed:
            if self._places is not None:
                self._places.check()
            left = deadline - time.monotonic()
            parts = self._parts(min(left, SLICE_S))
            if parts is None:
                self._check_authorized()
                if left <= 0:
                    return None
                continue
            try:
                message = decode(parts[1:], REPLY_LIMITS)
            except ProtocolError as error:
                logger.warning("stream=%s: cannot read a published message: %s", ",".join(self.streams), error)
                continue
            if self._places is not None:
                self._places.heard(message)
            return message
        return None

    def _parts(self, timeout_s: float) -> list[bytes] | None:
        """Return the parts of the next message, or None after `timeout_s`."""
        receive_timeout_ms = math.ceil(max(0.0, timeout_s) * 1000)
        with self._lock:
            if self.closed:
                return None
            # A receive with a timeout takes half the time of a poll and a receive.
            if receive_timeout_ms != self._receive_timeout_ms:
                self._socket.setsockopt(zmq.RCVTIMEO, receive_timeout_ms)
                self._receive_timeout_ms = receive_timeout_ms
            try:
                parts = receive_parts(self._socket, wait=True)
            except zmq.Again:
                return None
            self.received_ns = time.monotonic_ns()
            return parts

    def _check_authorized(self) -> None:
        """Raise if the daemon refused the key: ZeroMQ does not retry, so no message would ever arrive."""
        with self._lock:
            if self._monitor is not None and self._monitor.poll(0):
                raise TrackdError(f"the daemon at {self._endpoint}: {NOT_AUTHORIZED}", ErrorCode.FORBIDDEN)

    def _timeout_error(self, limit_s: float) -> Timeout:
        noun, are = ("stream", "is the stream") if len(self.streams) == 1 else ("streams", "are the streams")
        return Timeout(
            f"no message was published for {noun} {', '.join(map(repr, self.streams))} at {self._endpoint} within "
            f"{limit_s:g} s: is the daemon running, and {are} open? `trackd status` shows it"
        )


class EventSubscription(Subscription, Iterator[Event]):
    """The next events of a stream, in the order of receipt. Some may be lost."""

    def __init__(
        self,
        context: Context,
        endpoint: str | None,
        stream: str,
        timeout_s: float | None = None,
        keys: CurveKeys | None = None,
        places: Places | None = None,
    ) -> None:
        super().__init__(context, endpoint, (stream,), (topic("events", stream),), timeout_s, keys, places)
        if places is not None:
            places.follow(stream)

    def __next__(self) -> Event:
        start = time.monotonic()
        while not self.closed:
            message = self._receive(SLICE_S)
            if isinstance(message, Event):
                return message
            if self._timeout_s is not None and time.monotonic() - start > self._timeout_s:
                raise self._timeout_error(self._timeout_s)
        raise StopIteration
