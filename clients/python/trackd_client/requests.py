"""Control requests to the daemon and their replies, over a separate connection."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from trackd_client.errors import IS_IT_RUNNING, Timeout, TrackdError, Unreachable
from trackd_client.protocol import REPLY_LIMITS, ProtocolError, Reply, Request, decode, encode
from trackd_client.sending.exchange import RETRY_S
from trackd_client.transport.connection import Connection, Context
from trackd_client.transport.curve import CurveKeys

# These requests change nothing, so they may be repeated after a lost connection.
READ_ONLY = frozenset({"status", "history", "tracks.live", "models", "stream.zones", "recording.list"})


class Requests:
    """Sends one request at a time, from any thread. The socket connects at the first request."""

    def __init__(self, context: Context, endpoint: str, keys: CurveKeys | None) -> None:
        self._context = context
        self._endpoint = endpoint
        self._keys = keys
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._connection: Connection | None = None
        self._closed = False

    def ask(self, method: str, params: Mapping[str, Any], timeout_s: float, *, must_connect: bool = False) -> Any:
        """Send a control request and return its result.

        Raises:
            TrackdError: the daemon refuses, the connection was lost before the answer, or the client is closed.
            Timeout: the daemon did not answer.
            Unreachable: with `must_connect`, the daemon refuses connections; the request was not sent.
        """
        with self._lock:
            if self._closed:
                raise TrackdError("the client is closed")
            request = Request(next(self._ids), method, params)
            try:
                parts = encode(request)
            except ProtocolError as error:
                raise TrackdError(error.message, error.code) from None
            if self._connection is None:
                self._connection = Connection(self._context, self._endpoint, self._keys)
            connection = self._connection
            connection.check()
            if connection.disconnected:
                connection.reconnect()
            connection.send(parts)
            deadline = time.monotonic() + timeout_s
            while (left := deadline - time.monotonic()) > 0:
                connection.poll(left)
                while (received := connection.receive()) is not None:
                    with suppress(ProtocolError):
                        reply = decode(received, REPLY_LIMITS)
                        if isinstance(reply, Reply) and reply.id == request.id:
                            return result_of(reply)
                if must_connect and connection.unreachable and not connection.disconnected:
                    connection.reconnect()
                    raise Unreachable(f"the daemon at {self._endpoint} cannot be reached")
                if connection.disconnected:
                    if connection.refusal is not None:
                        time.sleep(max(0.0, min(RETRY_S, deadline - time.monotonic())))
                    connection.reconnect()
                    if method not in READ_ONLY:
                        why = connection.refusal or "the connection was lost; the request may have been done"
                        raise TrackdError(f"the daemon at {self._endpoint} did not answer {method}: {why}")
                    connection.send(parts)
            refusal = connection.refusal
            # Discard the queued request, so that a daemon that starts later does not do it.
            connection.reconnect()
        raise Timeout(
            f"the daemon at {self._endpoint} did not answer {method} within {timeout_s:g} s: {refusal or IS_IT_RUNNING}"
        )

    def close(self) -> None:
        """Close the connection after the request that is in progress."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def result_of(reply: Reply) -> Any:
    """Return a reply's result.

    Raises:
        TrackdError: it is an error.
    """
    if reply.error is not None:
        raise TrackdError(reply.error[1], reply.error[0])
    return reply.result
