"""The driver of a client's sessions in an asyncio event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from trackd_client.errors import IS_IT_RUNNING, TrackdError
from trackd_client.sending.driver import CLOCK_PINGS, CLOCK_S, KEEPALIVE_S, PONG_S
from trackd_client.sending.exchange import RETRY_S, Exchange
from trackd_client.sending.session import StreamSession
from trackd_client.transport.connection import Connection, Context
from trackd_client.transport.curve import CurveKeys
from trackd_client.transport.watch import Watch

_TICK_S = 0.5


class AsyncIngestDriver:
    """All streams of one client over one connection, in the event loop that makes it. No other thread is used."""

    def __init__(
        self,
        context: Context,
        endpoint: str,
        keys: CurveKeys | None = None,
        exchange_of: Callable[[Connection], Exchange] = Exchange,
    ) -> None:
        self._connection = Connection(context, endpoint, keys)
        self._exchange = exchange_of(self._connection)
        self.sessions = self._exchange.sessions
        self.clock = self._exchange.clock
        self.clock_wanted = False
        self.closed = False
        self._watch = Watch(self._connection, self._on_event)
        self._keepalive = asyncio.create_task(self._keep_alive(), name="trackd-keepalive")

    @property
    def endpoint(self) -> str:
        """The daemon's endpoint."""
        return self._connection.endpoint

    def unopened(self, stream: str, limit_s: float) -> str:
        """Return the text of the error of a stream that was not opened in time."""
        return (
            f"the daemon at {self.endpoint} did not open stream {stream!r} within {limit_s:g} s: "
            f"{self.refusal or IS_IT_RUNNING}"
        )

    @property
    def refusal(self) -> str | None:
        """Why the daemon refuses the connection, if that is known."""
        return self._connection.refusal

    def add(self, session: StreamSession) -> None:
        """Add a stream."""
        self.sessions[session.stream] = session

    def remove(self, session: StreamSession) -> None:
        """Remove a stream."""
        if self.sessions.get(session.stream) is session:
            del self.sessions[session.stream]

    def pump(self, *, read: bool = True) -> None:
        """Handle all received messages and send all messages that may be sent.

        Args:
            read: see `Exchange.turn`.

        Raises:
            TrackdError: the client is closed.
        """
        if self.closed:
            raise TrackdError("the client is closed")
        received = self._exchange.turn(time.monotonic(), read=read)
        # A send also takes note of what has arrived, and the descriptor then does not signal it.
        while self._connection.is_readable:
            received = self._exchange.turn(time.monotonic()) or received
        self._watch.refresh()
        if received:
            self._watch.notify()

    async def wait(self, done: Callable[[], Any], timeout_s: float) -> bool:
        """Wait until `done()` is true, at most for a time; return whether it became true."""
        deadline = time.monotonic() + timeout_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await self._watch.wait(min(left, RETRY_S) if self._exchange.retry_due else left)
            if self.closed or self._exchange.retry_due:
                self.pump()
        return True

    async def measure_clock(self, timeout_s: float) -> None:
        """Measure the daemon's clock by a few pings now, and every `CLOCK_S` from now on."""
        self.clock_wanted = True
        deadline = time.monotonic() + timeout_s
        for _ in range(CLOCK_PINGS):
            left = deadline - time.monotonic()
            if left <= 0 or not await self._ping(min(PONG_S, left)):
                return

    async def close(self) -> None:
        """Close the connection. Open streams stay open in the daemon until a timeout."""
        if self.closed:
            return
        self.closed = True
        self._keepalive.cancel()
        self._watch.close()
        self._connection.close()
        await asyncio.gather(self._keepalive, return_exceptions=True)

    def _on_event(self) -> None:
        if self.closed:
            return
        self._connection.check()
        self.pump()
        if self._connection.disconnected:
            self._watch.notify()  # the waiting coroutines retry

    async def _ping(self, timeout_s: float) -> bool:
        before = self.clock.samples
        self._exchange.ping()
        self.pump()
        return await self.wait(lambda: self.clock.samples > before, timeout_s)

    async def _keep_alive(self) -> None:
        while not self.closed:
            await asyncio.sleep(RETRY_S if self._exchange.retry_due else _TICK_S)
            if self.closed:
                return
            now = time.monotonic()
            self._connection.check()
            self.pump()
            clock_due = self.clock_wanted and now - self._exchange.pinged_at >= CLOCK_S
            if (clock_due or now - self._exchange.sent_at >= KEEPALIVE_S) and not self._connection.disconnected:
                await self._ping(PONG_S)
