"""When systemd is told what: a real datagram socket, and a clock that the test turns."""

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
    """Monotonic ns, by hand."""

    def __init__(self) -> None:
        self.now = 1_000 * S

    def __call__(self) -> int:
        return self.now


class Daemon:
    """The signs of life of a daemon that is not there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.inbox = Inbox(1)
        self.engine = Engine(self.inbox, lambda outcomes: None, clock=self.clock)
        self.health = Health(self.engine, self.inbox, STALL_S, clock=self.clock, last_io_ns=self.clock.now, bound=True)

    def live(self, seconds: float, *, engine: bool = True, io: bool = True) -> None:
        self.clock.now += int(seconds * S)
        if engine:
            self.engine.last_step_ns = self.clock.now
        if io:
            self.health.last_io_ns = self.clock.now


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def ear(tmp_path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)
        yield bound


def heard(ear: socket.socket) -> list[str]:
    """All that came since the last look."""
    lines: list[str] = []
    while True:
        try:
            lines += ear.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def systemd(daemon: Daemon, ear: socket.socket, **environment: str) -> Systemd:
    return Systemd(daemon.health, {"NOTIFY_SOCKET": ear.getsockname(), **environment}, daemon.clock)


def feeds(told: Systemd, daemon: Daemon, ear: socket.socket, seconds: int, **lives: bool) -> int:
    """How many feeds come in so many seconds, looked at ten times in each."""
    return beats(told, daemon, ear, 10 * seconds, **lives).count("WATCHDOG=1")


def beats(told: Systemd, daemon: Daemon, ear: socket.socket, count: int, **lives: bool) -> list[str]:
    """What comes of so many beats, a tenth of a second apart. The kernel holds ten datagrams: each is read at once."""
    said = []
    for _ in range(count):
        daemon.live(0.1, **lives)
        told.beat()
        said += heard(ear)
    return said


def test_the_watchdog_is_fed_three_times_in_its_time(daemon, ear):
    told = systemd(daemon, ear, WATCHDOG_USEC="6000000")
    assert feeds(told, daemon, ear, 60) == pytest.approx(30, abs=1)


@pytest.mark.parametrize("silent", ["engine", "io"])
def test_a_thread_that_is_silent_for_stall_s_ends_the_feeding_until_it_is_heard_again(daemon, ear, silent, caplog):
    told = systemd(daemon, ear, WATCHDOG_USEC="3000000")
    assert feeds(told, daemon, ear, STALL_S, **{silent: False}) == STALL_S
    assert feeds(told, daemon, ear, 60, **{silent: False}) <= 1
    assert len(caplog.records) == 1
    assert feeds(told, daemon, ear, 3) == 3


def test_an_engine_that_is_silent_without_work_is_not_fed_either(daemon, ear):
    told = systemd(daemon, ear, WATCHDOG_USEC="3000000")
    daemon.live(STALL_S + 1, engine=False)
    assert daemon.health.fault() is None  # no frame waits
    told.beat()
    assert "WATCHDOG=1" not in heard(ear)


def test_an_engine_that_waits_for_a_journal_that_cannot_be_written_is_fed(daemon, ear):
    class FullDisk:
        fault = "the journal cannot be written: No space left on device"

    daemon.health.journal = FullDisk()
    told = systemd(daemon, ear, WATCHDOG_USEC="3000000")
    assert feeds(told, daemon, ear, 60, engine=False) == pytest.approx(60, abs=1)
    assert feeds(told, daemon, ear, 60, engine=False, io=False) <= STALL_S + 1


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": ""}, False),
        ({"WATCHDOG_USEC": "soon"}, True),
        ({"WATCHDOG_USEC": "0"}, True),
        ({"WATCHDOG_USEC": "-5"}, True),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, False),
    ],
)
def test_a_watchdog_that_is_none_or_another_process_s_is_not_fed(daemon, ear, environment, warned, caplog):
    told = systemd(daemon, ear, **environment)
    assert feeds(told, daemon, ear, 60) == 0
    assert ["WATCHDOG_USEC must be" in record.message for record in caplog.records] == [True] * warned


def test_a_watchdog_of_this_very_process_is_fed(daemon, ear):
    told = systemd(daemon, ear, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    assert feeds(told, daemon, ear, 10) == 10


def test_the_status_is_told_when_it_changes_and_once_a_second_at_most(daemon, ear):
    told = systemd(daemon, ear)
    assert beats(told, daemon, ear, 100) == ["STATUS=ready; streams: 0, frames that wait: 0"]
    said = []
    for turn in range(100):
        daemon.health.bound = bool(turn % 2)  # it flickers
        said += beats(told, daemon, ear, 1)
    assert 5 <= len(said) <= 11
    assert {line.partition(";")[0] for line in said} <= {"STATUS=starting", "STATUS=ready"}


def test_a_drain_is_told_once_whoever_began_it(daemon, ear):
    told = systemd(daemon, ear)
    told.ready()
    daemon.health.draining = True
    told.beat()
    told.stopping()
    told.beat()
    said = heard(ear)
    assert said[0] == "READY=1"
    assert said.count("STOPPING=1") == 1
    assert said[-1].startswith("STATUS=draining")


@pytest.mark.parametrize("name", ["", "vsock:2:1234", "/no/such/socket"])
def test_a_systemd_that_is_not_there_harms_nothing_and_is_missed_once_at_most(daemon, name, caplog):
    with caplog.at_level(logging.WARNING):
        told = Systemd(daemon.health, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"}, daemon.clock)
        told.ready()
        for _ in range(100):
            daemon.live(1)
            told.beat()
        told.stopping()
    assert told.listens == (name == "/no/such/socket")
    assert len(caplog.records) == bool(name)
