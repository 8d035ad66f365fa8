"""The door through which all streams of a client go to the daemon."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from trackd_client.errors import TrackdError
from trackd_client.protocol import REPLY_LIMITS, Error, ErrorCode, Message, Ping, Pong, ProtocolError, decode, encode
from trackd_client.sending.clock import Clock
from trackd_client.sending.session import StreamSession
from trackd_client.transport.connection import Connection, Context
from trackd_client.transport.curve import CurveKeys

logger = logging.getLogger(__name__)

RETRY_S = 0.25  # between two attempts to come back
REFUSED_RETRY_S = 1.0  # the same where the daemon does not let us in
LOOK_S = 0.001  # between two looks at what has come, where nobody waits for it
KEEPALIVE_S = 2.0
CLOCK_S = 2.0  # between two looks at the daemon's clock, once somebody wants to know it
CLOCK_PINGS = 5  # of the first look: the first one or two pay for the connection
PONG_S = 1.0
_TICK_S = 0.5


class Turn:
    """A condition's lock, for a `with` block; at its end all that wait for the condition look again."""

    def __init__(self, condition: threading.Condition) -> None:
        self._condition = condition

    def __enter__(self) -> None:
        self._condition.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._condition.notify_all()
        self._condition.release()


class IngestDriver:
    """All streams of one client over one connection.

    There is no thread between caller and socket: whoever waits does the socket's work for everyone, and hands it on
    when another thread wants to send. A small thread of our own only speaks when nobody has for a while.
    """

    def __init__(self, context: Context, endpoint: str, keys: CurveKeys | None = None) -> None:
        self.endpoint = endpoint
        self.sessions: dict[str, StreamSession] = {}
        self.round_trip_s: float | None = None  # of the last ping
        self.clock = Clock()
        self._connection = Connection(context, endpoint, keys)
        self._turn = threading.Condition(threading.Lock())  # guards all of this but `Connection.wake`
        self._polling = False  # a thread is in `Connection.poll`, without the lock
        self._wanting = 0  # threads that wait for that one to step aside
        self._retry_at = 0.0
        self._active_at = self._looked_at = self._sent_at = self._pinged_at = time.monotonic()
        self.clock_wanted = False
        self._closed = threading.Event()
        self._keepalive = threading.Thread(target=self._keep_alive, name="trackd-keepalive", daemon=True)
        self._keepalive.start()

    @property
    def refusal(self) -> str | None:
        """Why the daemon does not let us in, as far as that is known."""
        return self._connection.refusal

    def turn(self) -> Turn:
        """The lock over the sessions. The socket is another's while that one polls; `pump` sees to it."""
        return Turn(self._turn)

    def add(self, session: StreamSession) -> None:
        """Take a stream in; with `turn` held."""
        self.sessions[session.stream] = session

    def remove(self, session: StreamSession) -> None:
        """Forget a stream; with `turn` held."""
        if self.sessions.get(session.stream) is session:
            del self.sessions[session.stream]

    def pump(self, *, look: bool = True, until: Callable[[], Any] | None = None) -> None:
        """Take in all that has come and send all that may go; with `turn` held.

        Args:
            look: for what has come; without it only where nobody did for `LOOK_S`. A look is a system call, which is
                dear where frames are sent one right behind the other.
            until: what comes after this has become true may lie until the next look.

        Raises:
            TrackdError: the client is closed.
        """
        self._claim()
        if self._closed.is_set():
            raise TrackdError("the client is closed")
        now = time.monotonic()
        self._active_at = now
        if self._connection.disconnected and now >= self._retry_at:
            refusal = self._connection.refusal
            logger.warning("endpoint=%s: %s; connecting anew", self.endpoint, refusal or "connection lost")
            self._connection.reconnect()
            for session in self.sessions.values():
                session.disconnected()
            self._sent_at = now
            self._send(now, may_retry=True)
            self._retry_at = now + (REFUSED_RETRY_S if refusal else RETRY_S)
        came = False
        if look or now - self._looked_at >= LOOK_S:
            self._looked_at = now
            while (parts := self._connection.receive()) is not None:
                came = True
                self._take(parts)
                if until is not None and until():
                    break
        self._send(now, may_retry=now >= self._retry_at)
        if came:
            self._turn.notify_all()

    def wait(self, done: Callable[[], Any], timeout_s: float, *, urgent: bool = False) -> bool:
        """Until `done()` is true; does the socket's work unless another thread does; with `turn` held.

        What was added to a session before must have been sent with `pump`: the other thread may sleep for long.

        Args:
            done: what is waited for.
            timeout_s: for how long.
            urgent: `pump` was called just now, so that there is nothing to do before the first message comes; and what
                comes behind that which makes `done()` true may lie until the next look.

        Returns:
            whether it became true within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        look = timeout_s <= 0  # otherwise the poll does it
        while True:
            if not self._polling and (look or not urgent):
                self.pump(look=look, until=done if urgent else None)
            look = True
            if done():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self._impatient():
                left = min(left, RETRY_S)
            if self._polling or self._wanting:
                self._turn.wait(left)
            else:
                self._poll(left)

    def pause(self, seconds: float) -> None:
        """Let what comes lie for a while, and other threads have the turn; with `turn` held."""
        self._turn.notify_all()
        self._turn.release()
        try:
            time.sleep(seconds)
        finally:
            self._turn.acquire()

    def measure_clock(self, timeout_s: float) -> bool:
        """Ask for the daemon's clock a few times now, and again and again from now on; with `turn` held.

        Returns:
            whether there was an answer within `timeout_s`.
        """
        self.clock_wanted = True
        deadline = time.monotonic() + timeout_s
        answers = 0
        while answers < CLOCK_PINGS and (left := deadline - time.monotonic()) > 0:
            self.pump()
            answers += self._ping(min(PONG_S, left))
        return answers > 0

    def close(self) -> None:
        """End the thread and the connection; streams that are open stay open in the daemon until they time out."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self.turn():
            self._claim()
            self._connection.close()
        if threading.current_thread() is not self._keepalive:
            self._keepalive.join()

    def _claim(self) -> None:
        """The socket for this thread: one that polls is woken and steps aside until the lock is free again."""
        if self._polling:
            self._wanting += 1
            self._connection.wake()
            self._turn.wait_for(lambda: not self._polling)
            self._wanting -= 1

    def _poll(self, timeout_s: float) -> None:
        self._polling = True
        self._turn.release()
        try:
            self._connection.poll(timeout_s)
        finally:
            self._turn.acquire()
            self._polling = False
            self._turn.notify_all()

    def _impatient(self) -> bool:
        """Something is to be tried again soon, without a message that would wake us."""
        return self._connection.disconnected or any(s.retry_due for s in self.sessions.values())

    def _take(self, parts: list[bytes]) -> None:
        try:
            message: Message = decode(parts, REPLY_LIMITS)
        except ProtocolError as error:
            logger.warning("endpoint=%s: a message that cannot be read: %s", self.endpoint, error)
            return
        if isinstance(message, Pong):
            now_ns = time.time_ns()
            self.round_trip_s = (now_ns - message.t_ns) / 1e9
            self.clock.take(message.t_ns, message.daemon_t_ns, now_ns)
            return
        if isinstance(message, Error) and message.code is ErrorCode.STREAM_BUSY and not message.fatal:
            # Perhaps the stream is still ours, and this connection is not: ZeroMQ has come back by itself, as a
            # stranger to the daemon, before anybody looked. The next `pump` then comes back the right way.
            self._connection.check()
            if self._connection.disconnected:
                return
        if isinstance(message, Error) and message.code is ErrorCode.FORBIDDEN and message.stream is None:
            # Our key was taken away: that concerns every stream.
            for each in self.sessions.values():
                each.receive(message)
            return
        session = self.sessions.get(getattr(message, "stream", None) or "")
        if session is None:
            logger.info("endpoint=%s: %s for no open stream: %r", self.endpoint, message.kind, message)
            return
        session.receive(message)
        if session.retry_due:
            # Refused for now: asking again at once would be answered the same way.
            self._retry_at = time.monotonic() + RETRY_S

    def _send(self, now: float, *, may_retry: bool) -> None:
        for session in self.sessions.values():
            if session.retry_due:
                if not may_retry:
                    continue
                session.retry()
            for parts in session.outgoing():
                self._connection.send(parts)
                self._sent_at = now

    def _ping(self, timeout_s: float) -> bool:
        """Ask, and wait for the answer: one that lay in the socket until somebody came by would tell a long way."""
        seen = self.clock.samples
        self._sent_at = self._pinged_at = time.monotonic()
        self._connection.send(encode(Ping(time.time_ns())))
        return self.wait(lambda: self.clock.samples > seen, timeout_s)

    def _keep_alive(self) -> None:
        while not self._closed.wait(_TICK_S):
            now = time.monotonic()
            clock_due = self.clock_wanted and now - self._pinged_at >= CLOCK_S
            if now - self._active_at < _TICK_S and not clock_due:
                continue  # somebody is at it
            with suppress(TrackdError), self.turn():  # closed meanwhile
                self._claim()
                if self._closed.is_set():
                    return
                self._connection.check()
                self.pump()
                silent = time.monotonic() - self._sent_at >= KEEPALIVE_S
                if (silent or clock_due) and not self._connection.disconnected:
                    self._ping(PONG_S)
