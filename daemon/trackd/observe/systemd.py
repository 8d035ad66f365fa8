"""Notifications to systemd: ready, watchdog, stopping, and a line of text for `systemctl status`.

systemd puts the name of a datagram socket into the environment of a `Type=notify` service. Without that name nothing
is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from trackd.observe.health import Health

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_SEND_S = 1.0  # a message that systemd does not read within this time is discarded
_FEEDS = 3  # in one watchdog time: two may be late
_STATUS_NS = 1_000_000_000  # between two texts


class Systemd:
    """Sends notifications to systemd. No method raises, and each may be called again.

    `run` needs a thread of its own: it takes locks, and a signal handler on its thread would wait for them forever.

    Args:
        health: the daemon's health and state.
        environment: holds `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` where systemd has set them.
        clock: monotonic ns.
    """

    def __init__(
        self, health: Health, environment: Mapping[str, str], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._health = health
        self._clock = clock
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._feed_ns = _watchdog_ns(environment) // _FEEDS  # 0: no watchdog
        self._fed_ns = self._status_ns = clock() - 3_600_000_000_000  # an hour ago: both are due at once
        self._status = ""
        self._silence: str | None = None
        self._stopping = False
        self._failed = False

    @property
    def listens(self) -> bool:
        """Whether the environment names a socket of systemd."""
        return self._address is not None

    def ready(self) -> None:
        """Report that the sockets are bound and frames are accepted."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Report that the drain has begun. This takes no lock, so a signal handler may call it."""
        if not self._stopping:
            self._stopping = True
            self._send("STOPPING=1")

    def run(self, ended: Callable[[float], bool]) -> None:
        """Send notifications until the daemon has ended.

        Args:
            ended: waits for at most this many seconds; returns whether the daemon has ended.
        """
        poll_s = min(_POLL_S, self._feed_ns / 2e9) if self._feed_ns else _POLL_S
        while not ended(poll_s):
            self.beat()

    def beat(self) -> None:
        """Feed the watchdog if the engine and the IO thread run, and send what has changed."""
        now = self._clock()
        silence = self._health.silence()
        if self._feed_ns and silence != self._silence:
            logger.warning("the watchdog is %s", "fed again" if silence is None else f"not fed: {silence}")
        self._silence = silence
        if self._feed_ns and silence is None and now - self._fed_ns >= self._feed_ns:
            self._fed_ns = now
            self._send("WATCHDOG=1")
        if self._health.draining:
            self.stopping()
        status = self._health.summary()
        if status != self._status and now - self._status_ns >= _STATUS_NS:
            self._status, self._status_ns = status, now
            self._send(f"STATUS={status}")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_S)
                sender.sendto(text.encode(), self._address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("%r could not be sent to systemd: %s", text, error)
            self._failed = True


def _address(name: str) -> str | None:
    if name.startswith("@"):
        return "\0" + name[1:]  # Linux's abstract namespace, which has no files
    if name.startswith("/"):
        return name
    if name:
        logger.warning("NOTIFY_SOCKET must be a path or begin with '@'; got %r: nothing is sent to systemd", name)
    return None


def _watchdog_ns(environment: Mapping[str, str]) -> int:
    """Return how long systemd waits for a feed, in ns; 0 where it waits for none, or for one of another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or not int(text):
        if text:
            logger.warning("WATCHDOG_USEC must be a number above 0; got %r: the watchdog is not fed", text)
        return 0
    return int(text) * 1000
