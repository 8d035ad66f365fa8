"""The viewer's page of a member in a real browser lists the streams of the other members, and goes to their pages."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from browser import Browser, chromium
from tank import Tank
from viewer_page import Page, daemon_here
from viewer_steps import opened_pages, shows

from trackd.daemon import Daemon
from trackd.fleet.store import Member, Owner
from trackd.server.fleet_pages import FleetPages

pytest.importorskip("websockets", reason="the browser is driven through websockets")
pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no Chromium: apt-get install chromium (make test does it where it can)"
)
ROWS = (
    "[...document.querySelectorAll('#others li')].map(row => [row.querySelector('.tile-name').textContent,"
    " row.querySelector('.tile-state').textContent, row.querySelector('a')?.getAttribute('href') ?? null])"
)
# The members' names that do not fit into their rows.
CLIPPED = (
    "[...document.querySelectorAll('#others .tile-state')].filter(cell => cell.scrollWidth > cell.clientWidth)"
    ".map(cell => cell.textContent)"
)


class Store:
    """A fleet's members and owners, as the test sets them."""

    def __init__(self, *members: Member) -> None:
        self.living = {member.name: member for member in members}
        self.owned: dict[str, Owner] = {}

    async def members(self) -> dict[str, Member]:
        return self.living

    async def owners(self) -> dict[str, Owner]:
        return self.owned


def join(daemon: Daemon, me: Member, store: Store) -> None:
    """Give the pages of a daemon the members of a store; each read has a thread of its own, as the fleet has."""

    def submit(work: Callable[[], Any]) -> None:
        threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()

    daemon._server._pages._fleet = FleetPages(lambda: me, store, submit, lambda call: call())


@contextmanager
def two_members() -> Iterator[tuple[Daemon, Daemon, Store]]:
    with daemon_here() as first, daemon_here() as second:
        a = Member("a", "1", {"http": first.addresses["http"]}, 64)
        b = Member("b", "1", {"http": second.addresses["http"]}, 64)
        store = Store(a, b, Member("c", "1", {}, 64), Member("d", "1", {"http": "javascript:alert(1)"}, 64))
        join(first, a, store)
        yield first, second, store


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Any]:
    with opened_pages(browser) as open_page:
        yield open_page


def test_a_row_of_another_member_goes_to_this_stream_on_its_page(pages: Any) -> None:
    with (
        two_members() as (first, second, store),
        Tank(first.addresses, "here"),
        Tank(second.addresses, "first"),
        Tank(second.addresses, "wanted"),
    ):
        store.owned = {
            "here": Owner("a", "1", 1), "first": Owner("b", "1", 1), "wanted": Owner("b", "1", 1),
            "x.a-long-name-no-page": Owner("c", "1", 1), "x.script": Owner("d", "1", 1), "z": Owner("e", "1", 1),
        }  # fmt: skip
        page = pages(first)
        shows(page, "here")
        page.wait("document.querySelectorAll('#others li').length === 5")
        http = second.addresses["http"]
        assert page.run(ROWS) == [
            ["first", "b", f"{http}/#stream=first"], ["wanted", "b", f"{http}/#stream=wanted"],
            ["x.a-long-name-no-page", "c, no page", None], ["x.script", "d, no page", None], ["z", "no owner", None],
        ]  # fmt: skip
        assert page.run("document.getElementById('fleet').textContent") == (
            "member a · fleet: a 1 stream, b 2 streams, c 1 stream, d 1 stream · 1 stream without an owner"
        )
        assert page.run("document.querySelectorAll('#tiles .tile').length") == 1
        assert page.run(CLIPPED) == []
        assert page.run("getComputedStyle(document.getElementById('tiles')).visibility") == "visible"

        page.run("document.querySelectorAll('#others a')[1].focus()")
        store.owned = {name: owner for name, owner in store.owned.items() if name not in ("first", "z")}
        page.wait("document.querySelectorAll('#others li').length === 3")
        assert page.run("document.activeElement.querySelector('.tile-name')?.textContent") == "wanted"

        page.click_on("#others a")
        page.wait(f"location.href === {f'{http}/#stream=wanted'!r}")
        page.wait_state(lambda state: state is not None and state["stream"] == "wanted", "the stream of the link", 40)
        page.wait("document.getElementById('fleet').hidden && document.getElementById('others').hidden")


def test_the_page_itself_makes_links_of_http_addresses_only(pages: Any) -> None:
    with daemon_here() as daemon:
        page = pages(daemon)
        addresses = ["http://h:1/", "https://h/", "javascript:alert(1)", "data:text/html,x", "h:1", "", None, 3]
        found = page.run(
            f"import('/static/fleet.js').then(m => {json.dumps(addresses)}.map(each => m.addressOf(each, 'a.b-c')))"
        )
        assert found == ["http://h:1/#stream=a.b-c", "https://h/#stream=a.b-c", *[None] * 6]
        hashes = ["#stream=cam", "#stream=a%20b", "#stream=%", "#tracks", ""]
        found = page.run(f"import('/static/fleet.js').then(m => {json.dumps(hashes)}.map(m.streamOfAddress))")
        assert found == ["cam", "a b", None, None, None]


def test_a_phone_that_shows_many_streams_of_a_fleet_needs_no_horizontal_scrolling(pages: Any) -> None:
    with two_members() as (first, _, store), Tank(first.addresses, "here"):
        store.owned = {f"cam{i:04}": Owner("b", "1", 1) for i in range(1200)}
        page = pages(first, width=360, height=780)
        shows(page, "here")
        page.wait("document.querySelectorAll('#others li').length === 1001")
        assert page.run("document.querySelector('#others li:last-child').textContent") == "… and 200 more"
        assert page.run("document.documentElement.scrollWidth") <= 360


def test_a_daemon_in_no_fleet_sends_and_shows_nothing_of_one(pages: Any) -> None:
    with daemon_here() as daemon, Tank(daemon.addresses, "here"):
        with Page(daemon) as socket:
            message = socket.until(lambda m: m["type"] == "streams" and m["streams"])
        assert set(message) == {"type", "streams", "stats"}
        page = pages(daemon)
        shows(page, "here")
        assert page.run("document.getElementById('fleet').hidden && document.getElementById('others').hidden")
        assert page.run("document.body.className") == "one-stream"
