"""What the pages of a member read of the fleet: when, on which thread, and what is shown where it cannot be read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from trackd.engine.inbox import Inbox
from trackd.fleet.store import AwayError, Member, Owner
from trackd.server.budget import Budget
from trackd.server.fleet_pages import FleetPages
from trackd.server.pages import Pages
from trackd.viewer.hub import Hub
from trackd.viewer.shower import Shower

S = 1_000_000_000
A = Member("a", "1", {}, 64)
B = Member("b", "1", {"http": "http://10.0.0.2:9570"}, 64)


class Store:
    """Has the members a and b, of which b owns one stream."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.stream = "cam"

    async def members(self) -> dict[str, Member]:
        return {"a": A, "b": B}

    async def owners(self) -> dict[str, Owner]:
        if self.fault is not None:
            raise self.fault
        return {self.stream: Owner("b", "1", 1)}


class Desk:
    """The IO thread's part, with a fleet whose thread runs only when the test says so."""

    def __init__(self) -> None:
        self.now = 100 * S
        self.store = Store()
        self.submitted: list[Any] = []
        self.on_io: list[Any] = []
        self.hub = Hub(pages=(SimpleNamespace(),))
        fleet = FleetPages(lambda: A, self.store, self.submitted.append, self.on_io.append, lambda: self.now)
        self.pages = Pages(self.hub, None, [], [], Budget(), lambda: self.now, fleet=fleet)  # type: ignore[arg-type]

    def listed(self, after_s: float = 0) -> Any:
        self.now += int(after_s * S)
        self.pages.list_streams()
        return self.hub.fleet

    def run_fleet(self) -> None:
        work = self.submitted.pop()
        try:
            asyncio.run(work())
        finally:
            while self.on_io:
                self.on_io.pop()()


def streams(view: Any) -> list[str]:
    return [row.stream for row in view.streams]


def test_the_store_is_read_at_most_once_in_2_seconds_and_never_twice_at_the_same_time():
    desk = Desk()
    assert (desk.listed().member, desk.listed().members) == ("a", {})
    for _ in range(10):
        desk.listed(1)
    assert len(desk.submitted) == 1  # the first read has not come back
    desk.run_fleet()
    assert streams(desk.listed()) == ["cam"]
    assert len(desk.submitted) == 1
    desk.run_fleet()
    for _ in range(19):
        desk.listed(0.1)
    assert desk.submitted == []
    desk.listed(0.1)
    assert len(desk.submitted) == 1


def test_nothing_is_read_without_a_page_and_the_next_page_sees_no_old_state():
    desk = Desk()
    desk.listed()
    desk.run_fleet()
    pages, desk.hub.pages = desk.hub.pages, ()
    for _ in range(5):
        desk.listed(1)
    assert desk.submitted == []
    desk.hub.pages = pages
    desk.store.stream = "other"
    assert streams(desk.listed(3600)) == []
    desk.run_fleet()
    assert streams(desk.listed()) == ["other"]


def test_while_the_store_is_away_the_last_state_is_shown_and_marked():
    desk = Desk()
    desk.listed()
    desk.run_fleet()
    desk.store.fault = AwayError("no server answers")
    desk.listed(2)
    desk.run_fleet()
    view = desk.listed()
    assert (streams(view), view.away) == (["cam"], True)
    desk.store.fault = None
    desk.listed(2)
    desk.run_fleet()
    assert not desk.listed().away


def test_a_read_that_fails_is_not_the_last_one():
    desk = Desk()
    desk.listed()
    desk.store.fault = RuntimeError("not expected")
    with pytest.raises(RuntimeError):
        desk.run_fleet()
    desk.store.fault = None
    desk.listed(2)
    desk.run_fleet()
    assert streams(desk.listed()) == ["cam"]


def test_pages_are_told_the_fleet_with_the_streams():
    desk = Desk()
    desk.listed()
    desk.run_fleet()
    desk.listed()
    told: list[bytes] = []
    desk.hub.pages = (SimpleNamespace(tell_streams=told.append),)
    Shower(desk.hub, Inbox(1 << 20)).turn()
    assert b"http://10.0.0.2:9570/" in told[0]


def test_without_a_fleet_nothing_of_it_is_listed():
    hub = Hub(pages=(SimpleNamespace(),))
    Pages(hub, None, [], [], Budget()).list_streams()  # type: ignore[arg-type]
    assert (hub.rows, hub.fleet) == ([], None)
