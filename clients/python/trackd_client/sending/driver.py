"""The driver of a client's sessions: it sends and receives for all streams over one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from trackd_client.errors import IS_IT_RUNNING, TrackdError
from trackd_client.sending.exchange import RETRY_S, Exchange
from trackd_client.sending.session import StreamSession
from trackd_client.transport.connection import Connection, Context
from trackd_client.transport.curve import CurveKeys

KEEPALIVE_S = 2.0
CLOCK_S = 2.0  # between two measurements of the daemon's clock, after the first request for it
CLOCK_PINGS = 5  # of the first measurement; the first one or two also wait for the connection
PONG_S = 1.0
_TICK_S = 0.5


class Turn(threading.Condition):
    """A condition with a plain lock; as a context manager it notifies all waiting threads at its end.

    Usually no thread waits. Without the count of those that do, each `notify_all` would take longer than the lock.
    """

    def __init__(self) -> None:
        super().__init__(threading.Lock())
        self._n_waiting = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until another thread notifies, at most `timeout` seconds; return whether one has."""
        self._n_waiting += 1
        try:
            return super().wait(timeout)
        finally:
            self._n_waiting -= 1

    def notify_all(self) -> None:
        """Notify all waiting threads. The caller holds the lock."""
        if self._n_waiting:
            super().notify_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.notify_all()
        self.release()


class IngestDriver:
    """All streams of one client over one connection.

    No thread runs between the caller and the socket. A thread that waits also polls the socket for all streams, and
    releases it when another thread wants to send. The keepalive thread uses the socket only after a time without calls.
    """

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
        self._turn = Turn()  # guards all fields and the connection, except `Connection.wake`
        self._polling = False  # a thread is in `Connection.poll`, without the lock
        self._claiming = 0  # threads that wait for the end of that poll
        self._active_at = time.monotonic()
        self.clock_wanted = False
        self._closed = threading.Event()
        self._keepalive = threading.Thread(target=self._keep_alive, name="trackd-keepalive", daemon=True)
        self._keepalive.start()

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
    def round_trip_s(self) -> float | None:
        """The round trip of the last ping."""
        return self._exchange.round_trip_s

    @property
    def refusal(self) -> str | None:
        """Why the daemon refuses the connection, if that is known."""
        return self._connection.refusal

    def turn(self) -> Turn:
        """Return the lock over the sessions. Another thread may still poll the socket; `pump` ends that poll."""
        return self._turn

    def add(self, session: StreamSession) -> None:
        """Add a stream. The caller holds `turn`."""
        self.sessions[session.stream] = session

    def remove(self, session: StreamSession) -> None:
        """Remove a stream. The caller holds `turn`."""
        if self.sessions.get(session.stream) is session:
            del self.sessions[session.stream]

    def pump(self, *, read: bool = True, until: Callable[[], Any] | None = None) -> None:
        """Handle all received messages and send all messages that may be sent. The caller holds `turn`.

        Args:
            read: see `Exchange.turn`.
            until: the same.

        Raises:
            TrackdError: the client is closed.
        """
        self._claim()
        if self._closed.is_set():
            raise TrackdError("the client is closed")
        now = time.monotonic()
        self._active_at = now
        if self._exchange.turn(now, read=read, until=until):
            self._turn.notify_all()

    def wait(self, done: Callable[[], Any], timeout_s: float, *, urgent: bool = False) -> bool:
        """Wait until `done()` is true, and poll the socket unless another thread does. The caller holds `turn`.

        Call `pump` before, if a session has something to send: the thread that polls may not wake for a long time.

        Args:
            done: the condition.
            timeout_s: the longest wait.
            urgent: `pump` was called just before, so the first step is to poll. Messages behind the one that makes
                `done()` true are handled at the next read.

        Returns:
            Whether `done()` became true within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        read = timeout_s <= 0  # else the poll reads
        while True:
            if not self._polling and (read or not urgent):
                self.pump(read=read, until=done if urgent else None)
            read = True
            if done():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._exchange.retry_due:
                left = min(left, RETRY_S)
            if self._polling or self._claiming:
                self._turn.wait(left)
            else:
                self._poll(left)

    def pause(self, seconds: float) -> None:
        """Release `turn` and sleep without reading the socket. The caller holds `turn`."""
        self._turn.notify_all()
        self._turn.release()
        try:
            time.sleep(seconds)
        finally:
            self._turn.acquire()

    def measure_clock(self, timeout_s: float) -> bool:
        """Measure the daemon's clock by a few pings now, and every `CLOCK_S` from now on. The caller holds `turn`.

        Returns:
            Whether the daemon answered within `timeout_s`.
        """
        self.clock_wanted = True
        deadline = time.monotonic() + timeout_s
        answers = 0
        while answers < CLOCK_PINGS and (left := deadline - time.monotonic()) > 0:
            self.pump()
            answers += self._ping(min(PONG_S, left))
        return answers > 0

    def close(self) -> None:
        """Stop the keepalive thread and close the connection. Open streams stay open in the daemon until a timeout."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self.turn():
            self._claim()
            self._connection.close()
        if threading.current_thread() is not self._keepalive:
            self._keepalive.join()

    def _claim(self) -> None:
        """Get the socket for this thread: end another thread's poll and wait until it has returned."""
        if self._polling:
            self._claiming += 1
            self._connection.wake()
            self._turn.wait_for(lambda: not self._polling)
            self._claiming -= 1

    def _poll(self, timeout_s: float) -> None:
        self._polling = True
        self._turn.release()
        try:
            self._connection.poll(timeout_s)
        finally:
            self._turn.acquire()
            self._polling = False
            self._turn.notify_all()

    def _ping(self, timeout_s: float) -> bool:
        """Ping and wait for the answer. A late read of the answer would make the measured round trip too long."""
        before = self.clock.samples
        self._exchange.ping()
        return self.wait(lambda: self.clock.samples > before, timeout_s)

    def _keep_alive(self) -> None:
        while not self._closed.wait(_TICK_S):
            now = time.monotonic()
            clock_due = self.clock_wanted and now - self._exchange.pinged_at >= CLOCK_S
            if now - self._active_at < _TICK_S and not clock_due:
                continue  # another thread has just used the socket
            with suppress(TrackdError), self.turn():  # the client may be closed by now
                self._claim()
                if self._closed.is_set():
                    return
                self._connection.check()
                self.pump()
                if self._exchange.retry_due:  # nobody else may wait for it
                    self.wait(lambda: not self._exchange.retry_due, _TICK_S)
                idle = time.monotonic() - self._exchange.sent_at >= KEEPALIVE_S
                if (idle or clock_due) and not self._connection.disconnected:
                    self._ping(PONG_S)
