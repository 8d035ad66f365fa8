"""The notifications to systemd and their times: a real datagram socket, and a clock that the test sets."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator

import pytest

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.observe.health import Health
from trackd.observe.systemd import Systemd

S = 1_000_000_000
STALL_S = 5


class Clock:
    """Monotonic ns, set by the test."""

    def __init__(self) -> None:
        self.now = 1_000 * S

    def __call__(self) -> int:
        return self.now


class Daemon:
    """The health of a daemon without threads: the test sets when they last ran."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.inbox = Inbox(1)
        self.engine = Engine(self.inbox, lambda outcomes: None, clock=self.clock)
        self.health = Health(self.engine, self.inbox, STALL_S, clock=self.clock, last_io_ns=self.clock.now, bound=True)

    def advance(self, seconds: float, *, engine: bool = True, io: bool = True) -> None:
        self.clock.now += int(seconds * S)
        if engine:
            self.engine.last_step_ns = self.clock.now
        if io:
            self.health.last_io_ns = self.clock.now


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def receiver(tmp_path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)
        yield bound


def received(receiver: socket.socket) -> list[str]:
    """All lines since the last call."""
    lines: list[str] = []
    while True:
        try:
            lines += receiver.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def systemd(daemon: Daemon, receiver: socket.socket, **environment: str) -> Systemd:
    return Systemd(daemon.health, {"NOTIFY_SOCKET": receiver.getsockname(), **environment}, daemon.clock)


def feeds(notifier: Systemd, daemon: Daemon, receiver: socket.socket, seconds: int, **runs: bool) -> int:
    """The number of feeds in this time, with ten beats in each second."""
    return beats(notifier, daemon, receiver, 10 * seconds, **runs).count("WATCHDOG=1")


def beats(notifier: Systemd, daemon: Daemon, receiver: socket.socket, count: int, **runs: bool) -> list[str]:
    """The lines of `count` beats, 0.1 s apart. They are read after each beat: the kernel holds only ten datagrams."""
    sent = []
    for _ in range(count):
        daemon.advance(0.1, **runs)
        notifier.beat()
        sent += received(receiver)
    return sent


def test_the_watchdog_is_fed_three_times_in_each_watchdog_time(daemon, receiver):
    notifier = systemd(daemon, receiver, WATCHDOG_USEC="6000000")
    assert feeds(notifier, daemon, receiver, 60) == pytest.approx(30, abs=1)


@pytest.mark.parametrize("stopped", ["engine", "io"])
def test_a_thread_that_does_not_run_for_stall_s_stops_the_feeds_until_it_runs_again(daemon, receiver, stopped, caplog):
    notifier = systemd(daemon, receiver, WATCHDOG_USEC="3000000")
    assert feeds(notifier, daemon, receiver, STALL_S, **{stopped: False}) == STALL_S
    assert feeds(notifier, daemon, receiver, 60, **{stopped: False}) <= 1
    assert len(caplog.records) == 1
    assert feeds(notifier, daemon, receiver, 3) == 3


def test_an_engine_without_work_that_does_not_run_stops_the_feeds_too(daemon, receiver):
    notifier = systemd(daemon, receiver, WATCHDOG_USEC="3000000")
    daemon.advance(STALL_S + 1, engine=False)
    assert daemon.health.fault() is None  # no frame waits
    notifier.beat()
    assert "WATCHDOG=1" not in received(receiver)


def test_a_long_step_is_no_stall_until_it_has_run_for_much_longer_than_its_limit(daemon, receiver):
    notifier = systemd(daemon, receiver, WATCHDOG_USEC="3000000")
    daemon.health.long_step_s = 200
    daemon.engine._long_since_ns[1] = daemon.clock.now
    assert feeds(notifier, daemon, receiver, 190) == pytest.approx(190, abs=1)
    assert daemon.health.fault() is None
    daemon.advance(15)
    assert daemon.health.fault() == "a long step has run for 205.0 s"
    notifier.beat()
    assert "WATCHDOG=1" not in received(receiver)
    daemon.health.long_step_s = None
    assert daemon.health.fault() is None


def test_the_watchdog_is_fed_while_the_engine_waits_for_a_journal_that_cannot_be_written(daemon, receiver):
    class FullDisk:
        fault = "the journal cannot be written: No space left on device"

    daemon.health.journal = FullDisk()
    notifier = systemd(daemon, receiver, WATCHDOG_USEC="3000000")
    assert feeds(notifier, daemon, receiver, 60, engine=False) == pytest.approx(60, abs=1)
    assert feeds(notifier, daemon, receiver, 60, engine=False, io=False) <= STALL_S + 1


@pytest.mark.parametrize(
    ("environment", "warns"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": ""}, False),
        ({"WATCHDOG_USEC": "soon"}, True),
        ({"WATCHDOG_USEC": "0"}, True),
        ({"WATCHDOG_USEC": "-5"}, True),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, False),
    ],
)
def test_nothing_is_fed_without_a_watchdog_or_with_one_of_another_process(daemon, receiver, environment, warns, caplog):
    notifier = systemd(daemon, receiver, **environment)
    assert feeds(notifier, daemon, receiver, 60) == 0
    assert ["WATCHDOG_USEC must be" in record.message for record in caplog.records] == [True] * warns


def test_a_watchdog_of_this_process_is_fed(daemon, receiver):
    notifier = systemd(daemon, receiver, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    assert feeds(notifier, daemon, receiver, 10) == 10


def test_the_status_is_sent_when_it_changes_and_at_most_once_a_second(daemon, receiver):
    notifier = systemd(daemon, receiver)
    assert beats(notifier, daemon, receiver, 100) == ["STATUS=ready; streams: 0, frames that wait: 0"]
    sent = []
    for number in range(100):
        daemon.health.bound = bool(number % 2)  # it changes at each beat
        sent += beats(notifier, daemon, receiver, 1)
    assert 5 <= len(sent) <= 11
    assert {line.partition(";")[0] for line in sent} <= {"STATUS=starting", "STATUS=ready"}


def test_a_drain_is_reported_once(daemon, receiver):
    notifier = systemd(daemon, receiver)
    notifier.ready()
    daemon.health.draining = True
    notifier.beat()
    notifier.stopping()
    notifier.beat()
    sent = received(receiver)
    assert sent[0] == "READY=1"
    assert sent.count("STOPPING=1") == 1
    assert sent[-1].startswith("STATUS=draining")


@pytest.mark.parametrize("name", ["", "vsock:2:1234", "/no/such/socket"])
def test_without_a_systemd_nothing_fails_and_at_most_one_warning_is_logged(daemon, name, caplog):
    with caplog.at_level(logging.WARNING):
        notifier = Systemd(daemon.health, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"}, daemon.clock)
        notifier.ready()
        for _ in range(100):
            daemon.advance(1)
            notifier.beat()
        notifier.stopping()
    assert notifier.listens == (name == "/no/such/socket")
    assert len(caplog.records) == bool(name)
