"""Acts of the viewer's page beside corrections: zones and lines that trigger rules then use, and recordings."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page, chromium
from daemon_process import DaemonProcess, wait_until
from tank import Tank
from viewer_page import daemon_here
from viewer_steps import log_line, on_screen, opened_pages, shows

from trackd_client import Client
from trackd_client.apps.trigger import Trigger, check_rules
from trackd_client.message_log.reader import LogReader
from trackd_client.protocol import Tracks, decode

pytest.importorskip("websockets", reason="the browser is driven through websockets")
pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no Chromium: apt-get install chromium (make test does it where it can)"
)
LONG_S = 60.0
# The tank has an animal in each of the first four of six cells of 160 by 180 pixels.
EMPTY = [(190, 200), (290, 200), (290, 340), (190, 340)]  # corners of a zone without animals


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonProcess]:
    with DaemonProcess(f"recording.dir={folder}") as running:
        yield running


@pytest.fixture(scope="module")
def tank(daemon: DaemonProcess) -> Iterator[Tank]:
    with Tank(daemon.addresses, "slow", count=4, step=0.02, pace_s=0.06) as tank:
        yield tank


@pytest.fixture
def pages(browser: Browser, tank: Tank) -> Iterator[Any]:
    tank.client.set_zones(tank.name, {})
    with opened_pages(browser) as open_page:
        yield open_page


def draw(page: Page, key: str, points: list[tuple[float, float]], name: str) -> None:
    """Draw a zone (z) or a line (x) by the mouse, and name it."""
    page.press(key)
    page.wait("!document.getElementById('draw-banner').hidden")
    for number, point in enumerate(points, 1):
        page.click(*on_screen(page, *point))
        if key == "z" or number < len(points):
            page.wait(f"trackdViewer.state.drawing.points.length === {number}")
    if key == "z":
        page.click(*on_screen(page, *points[0]))
    page.wait("document.activeElement === document.getElementById('draw-name')")
    page.type(name)  # in place of the offered name, which is selected
    page.press("Enter")
    page.wait("document.getElementById('draw-banner').hidden")


def near(points: Any) -> Any:
    """Points as they are drawn: a screen pixel is not a pixel of the picture."""
    return [pytest.approx(point, abs=1.0) for point in points]


def place(page: Page, name: str) -> Any:
    return next((each for each in page.state["places"] if each["name"] == name), None)


def test_a_zone_is_drawn_moved_renamed_drawn_again_and_deleted_by_the_mouse_on_all_pages(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page, other = pages(daemon), pages(daemon)
    shows(page, "slow")
    shows(other, "slow")
    draw(page, "z", EMPTY, "feeder")
    assert list(tank.client.zones("slow").zones["feeder"]) == near(EMPTY)
    assert tank.client.zones("slow").author == "viewer"
    log_line(other, "zone feeder is drawn")
    other.wait_state(lambda state: [each["name"] for each in state["places"]] == ["feeder"], "the zone on another page")

    page.drag(on_screen(page, 290, 200), on_screen(page, 310, 220))  # a corner of the selected zone
    log_line(other, "zone feeder is changed")
    corners = [EMPTY[0], (310, 220), *EMPTY[2:]]
    wait_until(lambda: list(tank.client.zones("slow").zones["feeder"]) == near(corners), LONG_S, "the moved corner")
    page.drag(on_screen(page, 230, 260), on_screen(page, 250, 250))  # all of it
    moved = [(x + 20, y - 10) for x, y in corners]
    wait_until(lambda: list(tank.client.zones("slow").zones["feeder"]) == near(moved), LONG_S, "the moved zone")
    other.wait_state(lambda _: place(other, "feeder")["points"] == near(moved), "the moved zone on another page")

    page.run("(() => { const name = document.getElementById('place-name'); name.focus(); name.select(); })()")
    page.type("pot")
    page.press("Enter")
    log_line(other, "zone feeder is named pot")
    page.wait("document.querySelector('#place-list [aria-pressed=true]').textContent === 'pot'")

    page.click_on("#redraw-place")
    for point in EMPTY[:3]:
        page.click(*on_screen(page, *point))
    page.click_on("#draw-done")
    page.wait("document.getElementById('draw-name').value === 'pot'")
    page.press("Enter")
    wait_until(lambda: list(tank.client.zones("slow").zones["pot"]) == near(EMPTY[:3]), LONG_S, "the zone drawn again")

    other.click_on("#place-list button")
    other.click_on("#delete-place")
    log_line(page, "zone pot is deleted")
    assert tank.client.zones("slow").zones == {}
    page.wait_state(lambda state: state["places"] == [], "no zone")


def test_a_line_is_two_clicks_and_a_click_on_it_selects_it(pages: Any, daemon: DaemonProcess, tank: Tank) -> None:
    page = pages(daemon)
    shows(page, "slow")
    draw(page, "x", [(190, 200), (290, 300)], "door")
    assert list(tank.client.zones("slow").lines["door"]) == near([(190, 200), (290, 300)])
    page.wait_state(lambda _: place(page, "door") is not None, "the line on the page")
    page.press("Escape")
    page.wait_state(lambda _: not place(page, "door")["isSelected"], "nothing selected")
    page.click(*on_screen(page, 240, 250))
    page.wait_state(lambda _: place(page, "door")["isSelected"], "the line selected")
    page.press("Delete")
    log_line(page, "line door is deleted")
    assert tank.client.zones("slow").lines == {}


def test_a_zone_is_drawn_and_moved_by_keys_alone(pages: Any, daemon: DaemonProcess, tank: Tank) -> None:
    page = pages(daemon)
    shows(page, "slow")
    page.press("z")
    for keys in (["ArrowDown"], ["ArrowRight"] * 3, ["ArrowDown"] * 4, ["ArrowLeft"] * 9):  # from the middle
        for key in keys:
            page.press(key)
        page.press(" ")
    page.press("Backspace")
    page.wait("trackdViewer.state.drawing.points.length === 3")
    page.press("Enter")
    page.wait("document.getElementById('draw-name').value === 'zone-1'")
    page.press("Enter")
    log_line(page, "zone zone-1 is drawn")
    drawn = [(240, 190), (270, 190), (270, 230)]
    assert list(tank.client.zones("slow").zones["zone-1"]) == near(drawn)
    page.run("document.querySelector('#place-list button').focus()")
    page.press("ArrowLeft")
    page.press("ArrowUp")
    moved = [(x - 10, y - 10) for x, y in drawn]
    wait_until(lambda: list(tank.client.zones("slow").zones["zone-1"]) == near(moved), LONG_S, "the moved zone")
    page.press("z")
    page.press("Escape")
    page.wait("document.getElementById('draw-banner').hidden")


def test_a_name_that_the_daemon_refuses_is_said_and_two_pages_do_not_lose_each_others_zones(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page = pages(daemon)
    shows(page, "slow")
    draw(page, "z", EMPTY, "feeder")
    page.press("z")
    page.wait("trackdViewer.state.drawing.kind === 'zone'")
    corner = (300.0, 20.0)
    tank.client.set_zones("slow", {"elsewhere": [corner, (310, 20), (310, 30)]}, author="ada")
    for point in EMPTY[:3]:
        page.click(*on_screen(page, *point))
    page.press("Enter")
    page.type("too\tmuch")
    page.press("Enter")
    log_line(page, "the zones are not changed: zones should have printable names")
    page.run("document.getElementById('draw-name').select()")
    page.type("third")
    page.press("Enter")
    log_line(page, "zone elsewhere is drawn (ada)")
    wait_until(lambda: set(tank.client.zones("slow").zones) == {"elsewhere", "third"}, LONG_S, "both zones")


def test_a_rule_of_a_trigger_fires_for_a_zone_that_is_drawn_in_the_page_and_moved_over_an_animal(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page = pages(daemon)
    shows(page, "slow")
    draw(page, "z", EMPTY, "feeder")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(LONG_S)
        rules = {
            "zones": {"feeder": "stream"},
            "actions": {"out": {"kind": "udp", "to": f"127.0.0.1:{listener.getsockname()[1]}"}},
            "rules": {"fed": {"when": "zone_enter", "zone": "feeder", "streams": ["slow"], "do": ["out"]}},
        }
        addresses = {kind: daemon.addresses[kind] for kind in ("ingest", "tracks", "control")}
        ended = threading.Event()
        with Client(**addresses) as client, Trigger(client, check_rules(rules)) as trigger:

            def evaluate() -> None:
                while not ended.is_set():
                    trigger.step()

            thread = threading.Thread(target=evaluate)
            thread.start()
            try:
                page.drag(on_screen(page, 240, 270), on_screen(page, 240, 90))  # onto the second animal
                fired = json.loads(listener.recv(65536))
            finally:
                ended.set()
                thread.join(LONG_S)
    assert (fired["rule"], fired["zone"], fired["track"]) == ("fed", "feeder", tank.id_of(1))


def test_a_recording_is_started_and_stopped_by_a_button_shown_on_all_pages_and_read_back(
    pages: Any, daemon: DaemonProcess, tank: Tank, folder: Path
) -> None:
    page, other = pages(daemon), pages(daemon, width=390, height=780)
    shows(page, "slow")
    shows(other, "slow")
    assert page.run("document.getElementById('recording').hidden")
    before = max(tank.published)
    page.click_on("#record")
    log_line(page, "is started")
    other.wait("/^recording 0:0[1-9]/.test(document.getElementById('recording').textContent)")
    page.wait("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    assert page.run("document.getElementById('record').textContent") == "Stop recording"
    assert other.run("document.documentElement.scrollWidth") <= 390
    between = tank.next().seq
    other.click_on("#record")
    log_line(page, "has ended after 0:0")
    after = max(tank.published) + 200
    page.wait("document.getElementById('recording').hidden")
    other.wait("document.getElementById('record').textContent === 'Record'")

    (row,) = tank.client.recordings()
    assert (row.stream, row.author, row.active, row.missing) == ("slow", "viewer", False, 0)
    reader = LogReader(folder / row.recording)
    messages = [decode(record.parts[1:]) for record in reader.records()]
    seqs = [message.seq for message in messages if isinstance(message, Tracks)]
    assert reader.damaged == reader.cut == []
    assert before < seqs[0] <= between <= seqs[-1] < after
    assert seqs == list(range(seqs[0], seqs[-1] + 1))


def test_a_page_that_may_only_read_shows_zones_and_offers_no_drawing(browser: Browser, tmp_path: Path) -> None:
    private = {"control": f"ipc://{tmp_path}/private/control"}
    with (
        daemon_here(endpoints=private) as daemon,
        Tank(daemon.addresses, "tank") as tank,
        opened_pages(browser) as pages,
    ):
        tank.client.set_zones("tank", {"feeder": EMPTY})
        page = pages(daemon)
        shows(page, "tank")
        page.wait_state(lambda state: [each["name"] for each in state["places"]] == ["feeder"], "the zone")
        seen = page.run(
            "[...document.querySelectorAll('#place-acts, #place-edit')].filter(part => !part.hidden).length"
        )
        assert seen == 0
        assert page.run("document.getElementById('record').hidden")
        page.press("z")
        page.drag(on_screen(page, 240, 270), on_screen(page, 300, 270))
        assert page.state["drawing"]["kind"] is None
        assert list(tank.client.zones("tank").zones["feeder"]) == [tuple(map(float, point)) for point in EMPTY]


def test_without_a_folder_the_button_says_which_key_is_missing(browser: Browser) -> None:
    with daemon_here() as daemon, Tank(daemon.addresses, "tank"), opened_pages(browser) as pages:
        page = pages(daemon)
        shows(page, "tank")
        page.click_on("#record")
        log_line(page, "recording.dir is not set in the daemon")
        assert page.run("document.getElementById('recording').hidden")
