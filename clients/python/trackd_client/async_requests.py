"""Control requests from an asyncio event loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from trackd_client.errors import IS_IT_RUNNING, Timeout, TrackdError, Unreachable
from trackd_client.protocol import REPLY_LIMITS, ProtocolError, Reply, Request, decode, encode
from trackd_client.requests import READ_ONLY, result_of
from trackd_client.sending.exchange import RETRY_S
from trackd_client.transport.connection import Connection, Context
from trackd_client.transport.curve import CurveKeys
from trackd_client.transport.watch import Watch


class AsyncRequests:
    """Sends one request at a time. The socket connects at the first request."""

    def __init__(self, context: Context, endpoint: str, keys: CurveKeys | None) -> None:
        self._context = context
        self._endpoint = endpoint
        self._keys = keys
        self._lock = asyncio.Lock()
        self._ids = itertools.count(1)
        self._connection: Connection | None = None
        self._watch: Watch | None = None
        self._closed = False

    async def ask(self, method: str, params: Mapping[str, Any], timeout_s: float, *, must_connect: bool = False) -> Any:
        """Send a control request and return its result. A cancelled request may have been done.

        Raises:
            TrackdError: the daemon refuses, the connection was lost before the answer, or the client is closed.
            Timeout: the daemon did not answer.
            Unreachable: with `must_connect`, the daemon refuses connections; the request was not sent.
        """
        async with self._lock:
            request = Request(next(self._ids), method, params)
            try:
                parts = encode(request)
            except ProtocolError as error:
                raise TrackdError(error.message, error.code) from None
            connection, watch = self._opened()
            connection.check()
            if connection.disconnected:
                connection.reconnect()
                watch.refresh()
            connection.send(parts)
            deadline = time.monotonic() + timeout_s
            while (left := deadline - time.monotonic()) > 0:
                while (received := connection.receive()) is not None:
                    with suppress(ProtocolError):
                        reply = decode(received, REPLY_LIMITS)
                        if isinstance(reply, Reply) and reply.id == request.id:
                            return result_of(reply)
                connection.check()
                if must_connect and connection.unreachable and not connection.disconnected:
                    connection.reconnect()
                    watch.refresh()
                    raise Unreachable(f"the daemon at {self._endpoint} cannot be reached")
                if connection.disconnected:
                    if connection.refusal is not None:
                        await asyncio.sleep(min(RETRY_S, left))
                    connection.reconnect()
                    watch.refresh()
                    if method not in READ_ONLY:
                        why = connection.refusal or "the connection was lost; the request may have been done"
                        raise TrackdError(f"the daemon at {self._endpoint} did not answer {method}: {why}")
                    connection.send(parts)
                if not connection.is_readable:
                    await watch.wait(left)
                if self._closed:
                    raise TrackdError("the client is closed")
            refusal = connection.refusal
            # Discard the queued request, so that a daemon that starts later does not do it.
            connection.reconnect()
            watch.refresh()
        raise Timeout(
            f"the daemon at {self._endpoint} did not answer {method} within {timeout_s:g} s: {refusal or IS_IT_RUNNING}"
        )

    def _opened(self) -> tuple[Connection, Watch]:
        if self._closed:
            raise TrackdError("the client is closed")
        if self._connection is None or self._watch is None:
            self._connection = Connection(self._context, self._endpoint, self._keys)
            self._watch = Watch(self._connection, self._on_event)
        return self._connection, self._watch

    def _on_event(self) -> None:
        if self._watch is not None:
            self._watch.notify()

    async def close(self) -> None:
        """Close the connection. A request that is in progress ends with an error."""
        self._closed = True
        if self._watch is not None:
            self._watch.notify()
        async with self._lock:
            if self._connection is not None and self._watch is not None:
                self._watch.close()
                self._connection.close()
                self._connection = self._watch = None
