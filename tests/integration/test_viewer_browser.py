"""The viewer's page in a real browser shows what real daemons publish, and acts on it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, Page, chromium
from daemon_process import DaemonProcess, fixed_ports, wait_until
from tank import Tank
from viewer_page import daemon_here
from viewer_steps import log_line, opened_pages, shows

import trackd.viewer
from trackd_client import Client, Detections

pytest.importorskip("websockets", reason="the browser is driven through websockets")
pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no Chromium: apt-get install chromium (make test does it where it can)"
)
STATIC = Path(trackd.viewer.__file__).parent / "static"
MAX_BYTES = 300_000
FRAMES = 5  # pictures in which boxes and animals are compared


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as running:
        yield running


@pytest.fixture(scope="module")
def tank(daemon: DaemonProcess) -> Iterator[Tank]:
    with Tank(daemon.addresses, "tank") as swimming:
        yield swimming


@pytest.fixture
def pages(browser: Browser) -> Iterator[Any]:
    """Opens pages; at the end none of them has had an error."""
    with opened_pages(browser) as open_page:
        yield open_page


def as_drawn(state: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Return the centres of the drawn tracks, in pixels of the full picture, by id."""
    view = state["view"]
    return {
        track["id"]: ((track["x"] - view["left"]) / view["scale"], (track["y"] - view["top"]) / view["scale"])
        for track in state["tracks"]
    }


def assert_as_published(state: dict[str, Any], tank: Tank) -> None:
    tracks = tank.at(state["seq"], state["epoch"])
    drawn = as_drawn(state)
    assert set(drawn) == set(tracks.track_ids.tolist())
    for track_id, (x1, y1, x2, y2) in zip(tracks.track_ids.tolist(), tracks.boxes, strict=True):
        assert drawn[track_id] == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2), abs=0.5)


def canvas_click(page: Page, track_id: int) -> None:
    """Click on a track where it is drawn now."""
    left, top = page.run("(({x, y}) => [x, y])(document.getElementById('picture').getBoundingClientRect())")
    drawn = page.wait_state(lambda state: track_id in as_drawn(state), f"track {track_id}")
    track = next(track for track in drawn["tracks"] if track["id"] == track_id)
    page.click(left + track["x"], top + track["y"])
    page.wait(f"trackdViewer.state.selected === {track_id}")


def test_every_id_is_drawn_at_the_place_that_was_published_for_that_frame(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page = pages(daemon)
    began = time.monotonic()
    state = shows(page, "tank")
    page.wait("trackdViewer.state.hasPicture")
    print(f"first picture {time.monotonic() - began:.2f} s after the navigation")
    seen = set()
    for _ in range(4):
        state = page.wait_state(lambda now: now["seq"] not in seen, "another frame")
        seen.add(state["seq"])
        assert_as_published(state, tank)
    table = page.wait("[...document.querySelectorAll('#table .id')].map(cell => Number(cell.textContent))")
    assert set(table) == set(as_drawn(state)), "the table is the text form of the picture"


def test_boxes_and_picture_are_always_of_the_same_frame(pages: Any, daemon: DaemonProcess, tank: Tank) -> None:
    page = pages(daemon)
    shows(page, "tank")
    page.wait("trackdViewer.state.hasPicture")
    for key in "bti":  # the picture alone
        page.press(key)
    # Near the corners of a box: in the picture of another frame at least one of them is dark.
    read = """(() => {
      const canvas = document.getElementById("picture");
      const ratio = canvas.width / canvas.clientWidth;
      const {seq, tracks, view} = trackdViewer.state;
      const light = (x, y) => canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data[0];
      const away = 9 * view.scale;
      const corners = ({x, y}) => [-away, away].flatMap(dx => [-away, away].map(dy => light(x + dx, y + dy)));
      return {seq, lights: tracks.flatMap(corners)};
    })()"""
    compared: dict[int, list[int]] = {}
    page.run("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    deadline = time.monotonic() + 40
    while len(compared) < FRAMES:
        found = page.run(read)
        compared[found["seq"]] = found["lights"]
        assert time.monotonic() < deadline, f"only {len(compared)} frames in 40 s"
    assert all(light > 180 for lights in compared.values() for light in lights), compared


def test_a_paused_page_shows_every_frame_of_the_past_as_it_was_published(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page = pages(daemon)
    shows(page, "tank")
    page.press(" ")
    page.wait(
        "trackdViewer.state.isPaused && trackdViewer.state.seq === Number(document.getElementById('scrub').value)"
    )
    paused = page.run("Number(document.getElementById('scrub').value)")  # a later frame may be drawn for a moment
    for steps in (1, 2, 3):
        page.press("ArrowLeft")
        state = page.wait_state(lambda state, seq=paused - steps: state["seq"] == seq, f"{steps} frames back")
        assert_as_published(state, tank)
    page.press("ArrowRight")
    page.wait_state(lambda state: state["seq"] == paused - 2, "a frame forward")
    oldest = page.wait("Number(document.getElementById('scrub').min) < trackdViewer.state.seq - 5")
    assert oldest
    # The tank's own subscription may have begun after the first frames.
    early = max(page.run("Number(document.getElementById('scrub').min) + 2"), tank.first_of(page.state["epoch"]))
    page.run(
        f"(() => {{ const scrub = document.getElementById('scrub'); scrub.value = {early};"
        " scrub.dispatchEvent(new Event('input')); })()"
    )
    state = page.wait_state(lambda state: state["seq"] == early, "a frame of the daemon's history")
    assert_as_published(state, tank)
    page.click_on("#live")
    page.wait_state(lambda state: not state["isPaused"] and state["seq"] > paused, "the live picture")


def test_a_followed_track_stays_in_the_middle_and_a_hidden_one_is_not_drawn(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page = pages(daemon)
    shows(page, "tank")
    followed, hidden = tank.id_of(4), tank.id_of(0)
    page.click_on("#search")
    page.type(str(followed))
    page.wait("document.querySelectorAll('#table tr').length === 1")
    page.click_on("#table .pick")
    page.press("f")
    size = page.run("[document.getElementById('picture').clientWidth, document.getElementById('picture').clientHeight]")

    def is_near_the_middle(state: dict[str, Any]) -> bool:
        track = next((track for track in state["tracks"] if track["id"] == followed), None)
        return (
            track is not None
            and state["view"]["scale"] > 2.9 * min(size[0] / 480, size[1] / 360)
            and abs(track["x"] - size[0] / 2) < size[0] / 4
            and abs(track["y"] - size[1] / 2) < size[1] / 4
        )

    page.wait_state(is_near_the_middle, "the followed track in the middle")
    page.press("0")
    page.run(
        "(() => { const search = document.getElementById('search'); search.value = '';"
        " search.dispatchEvent(new Event('input')); })()"
    )
    page.wait_for(f'[aria-label="Hide track {hidden}"]')
    page.click_on(f'[aria-label="Hide track {hidden}"]')
    page.wait_state(lambda state: hidden not in {track["id"] for track in state["tracks"]}, "no hidden track")
    page.press("a")
    page.wait_state(lambda state: hidden in {track["id"] for track in state["tracks"]}, "all tracks again")


@pytest.fixture(scope="module")
def slow_tank(daemon: DaemonProcess) -> Iterator[Tank]:
    """Animals that hardly move, so that a click meets the animal that it is aimed at."""
    with Tank(daemon.addresses, "slow", count=4, step=0.02, pace_s=0.06) as tank:
        yield tank


def test_each_correction_is_two_clicks_and_reaches_the_published_tracks(
    pages: Any, daemon: DaemonProcess, slow_tank: Tank
) -> None:
    tank = slow_tank
    page = pages(daemon)
    shows(page, "slow")
    first, second = tank.id_of(0), tank.id_of(1)

    canvas_click(page, first)
    page.wait_for(f'[aria-label="Swap with {second}"]')
    page.click_on(f'[aria-label="Swap with {second}"]')
    log_line(page, f"tracks {first} and {second} are swapped")
    wait_until(lambda: tank.next().track_ids[:2].tolist() == [second, first], 30, "the swapped ids")
    page.wait_state(
        lambda state: as_drawn(state)[first] == pytest.approx(centre(tank, state, 1), abs=0.5), "the swap drawn"
    )

    page.click_on("#undo")
    log_line(page, "is undone")
    wait_until(lambda: tank.next().track_ids[:2].tolist() == [first, second], 30, "the ids of before")

    canvas_click(page, second)
    page.click_on("#name")
    page.type("Ada")
    page.press("Enter")
    log_line(page, f"track {second} is named Ada")
    page.wait_state(lambda state: {"Ada"} == {t["name"] for t in state["tracks"] if t["id"] == second}, "the name")
    page.wait("[...document.querySelectorAll('#table .name')].some(cell => cell.textContent === 'Ada')")

    canvas_click(page, first)
    page.click_on("#new-id")
    log_line(page, f"track {first} has the new id")
    wait_until(lambda: first not in tank.next().track_ids, 30, "a new id")

    ended = tank.id_of(2)
    canvas_click(page, ended)
    page.click_on("#end-track")
    log_line(page, f"track {ended} is ended")
    wait_until(lambda: ended not in tank.next().track_ids, 30, "the end of a track")
    successor = tank.id_of(2)

    page.click_on("#undo")
    log_line(page, f"track {ended} is live again in place of track {successor}")
    wait_until(lambda: tank.next().track_ids[2] == ended, 30, "the restored track")
    page.wait_state(
        lambda state: as_drawn(state)[ended] == pytest.approx(centre(tank, state, 2), abs=0.5), "the id drawn again"
    )
    page.click_on("#undo")
    log_line(page, f"track {first} is live again")
    wait_until(lambda: tank.next().track_ids[0] == first, 30, "the old id")


def test_the_lane_of_a_restored_track_goes_on_after_its_gap(pages: Any, daemon: DaemonProcess, slow_tank: Tank) -> None:
    page = pages(daemon)
    shows(page, "slow")
    lanes = page.run(
        """(async () => {
          const page = document.querySelector("script[type=module]").src;
          const { Lanes } = await import(page.replace("viewer.js", "lanes.js"));
          const lanes = new Lanes();
          const lists = { newTracks: [], foundTracks: [], lostTracks: [], endedTracks: [], restoredTracks: [] };
          const change = (seq, changed) => lanes.change({ seq, parents: [], flags: [], ...lists, ...changed });
          change(0, { newTracks: [1, 2] });
          change(5, { newTracks: [3], endedTracks: [1, 2] });
          change(9, { restoredTracks: [1, 2], lostTracks: [2], endedTracks: [3] });
          lanes.corrected(8, { action: "undo", tracks: [1], restored: 1, replaced: 3, undoes: 1, number: 2 });
          lanes.last = 12;
          return [...lanes.lanes.values()].map((lane) => ({
            id: lane.id, state: lane.ended ? "ended" : lane.isLost ? "lost" : "present",
            from: lane.spans.map((span) => span.from), to: lane.spans.map((span) => span.to ?? null),
            marks: lane.marks.map((mark) => [mark.seq, mark.kind, mark.other]),
          }));
        })()"""
    )
    assert [(lane["id"], lane["state"], lane["from"]) for lane in lanes] == [
        (1, "present", [0, 9]), (2, "lost", [0, 9]), (3, "ended", [5]),
    ]  # fmt: skip
    assert [lane["to"][0] for lane in lanes] == [4, 4, 8]
    assert lanes[0]["marks"] == [[0, "birth", None], [5, "end", None], [9, "restored", None], [9, "undo", 3]]
    assert lanes[2]["marks"] == [[5, "birth", None], [9, "end", None], [9, "undo", 1]]


def centre(tank: Tank, state: dict[str, Any], animal: int) -> tuple[float, float]:
    x1, y1, x2, y2 = tank.at(state["seq"], state["epoch"]).boxes[animal]
    return (x1 + x2) / 2, (y1 + y2) / 2


def test_two_tracks_are_swapped_by_clicks_on_the_picture_and_a_lost_one_is_merged(
    pages: Any, daemon: DaemonProcess, slow_tank: Tank
) -> None:
    tank = slow_tank
    page = pages(daemon)
    shows(page, "slow")
    one, other = tank.id_of(2), tank.id_of(3)
    canvas_click(page, one)
    page.press("s")
    page.wait("!document.getElementById('pick-banner').hidden")
    left, top = page.run("(({x, y}) => [x, y])(document.getElementById('picture').getBoundingClientRect())")
    track = next(track for track in page.state["tracks"] if track["id"] == other)
    page.click(left + track["x"], top + track["y"])
    log_line(page, f"tracks {one} and {other} are swapped")
    wait_until(lambda: tank.next().track_ids[2:].tolist() == [other, one], 30, "the swapped ids")

    tank.missing = frozenset({3})
    wait_until(lambda: one not in tank.next().track_ids, 30, "a lost track")
    present = int(tank.next().track_ids[0])
    canvas_click(page, present)
    page.wait_for(f'[aria-label="Merge into {one}"]')
    page.click_on(f'[aria-label="Merge into {one}"]')
    log_line(page, f"track {present} is merged into {one}")
    wait_until(lambda: one in tank.next().track_ids, 30, "the merged track")
    page.wait_state(lambda state: state["selected"] == one, "the merged track is selected")
    tank.missing = frozenset()

    canvas_click(page, one)
    page.click_on("#name")
    page.type("Ada")  # the name of another track, unless that track has ended
    page.press("Enter")
    log_line(page, "Ada")


def test_a_page_connects_again_after_the_daemon_was_killed_and_started_again(pages: Any) -> None:
    http = f"daemon.http=127.0.0.1:{fixed_ports()[0].rpartition(':')[2]}"
    ports = fixed_ports()
    daemon = DaemonProcess(*ports, http)
    tank = Tank(daemon.addresses, "tank")
    try:
        with tank:
            page = pages(daemon)
            before = shows(page, "tank")
            daemon.stop(signal.SIGKILL)
            page.wait("document.getElementById('state').textContent.startsWith('no connection')", 30)
            assert page.run("document.getElementById('notice').textContent").startswith("No connection")
            daemon = DaemonProcess(*ports, http)
            after = page.wait_state(lambda state: state["epoch"] != before["epoch"], "a picture of the next daemon", 60)
            first = tank.first_of(after["epoch"])
            after = page.wait_state(lambda state: state["seq"] >= first, "a frame that both have got")
            assert_as_published(after, tank)
            page.wait("document.getElementById('state').textContent === 'connected'")
            page.wait("document.getElementById('notice').hidden")
    finally:
        daemon.__exit__()


def test_a_phone_needs_no_horizontal_scrolling(pages: Any, daemon: DaemonProcess, tank: Tank) -> None:
    page = pages(daemon, width=360, height=780, scheme="dark")
    shows(page, "tank")
    page.wait_for("#table .pick")
    page.press("j")  # the panel of the selected track is open
    page.wait("!document.getElementById('selection').hidden")
    for width in (360, 390):
        page.resize(width, 780)
        page.wait(f"innerWidth === {width}")
        assert page.run("document.documentElement.scrollWidth") <= width
        wide = page.run(
            "[...document.querySelectorAll('body > *, .side > *')].filter(part =>"
            " part.getBoundingClientRect().right > innerWidth + 0.5).map(part => part.id || part.className)"
        )
        assert wide == []


def test_a_stream_without_pictures_is_an_arena_and_100_instances_are_drawn(pages: Any, daemon: DaemonProcess) -> None:
    with Tank(daemon.addresses, "crowd", count=100, pictures=False, pace_s=0.06) as tank:
        page = pages(daemon)
        state = shows(page, "crowd")
        assert not state["hasPicture"]
        state = page.wait_state(lambda state: len(state["tracks"]) == 100, "100 tracks")
        assert_as_published(state, tank)
        measured = page.run("trackdViewer.measure(60)")
        print(f"100 instances: {measured['fps']:.1f} fps, {measured['milliseconds']:.2f} ms a drawing")
        assert measured["fps"] > 1


def test_the_boxes_of_tentative_tracks_are_dashed_and_the_table_names_their_state(
    pages: Any, daemon: DaemonProcess
) -> None:
    # The share of the pixels along the lower edge of the only box that are coloured.
    read = """(() => {
      const canvas = document.getElementById("picture");
      const ratio = canvas.width / canvas.clientWidth;
      const {tracks: [{x, y}], view} = trackdViewer.state;
      const half = 12 * view.scale - 4;
      const height = 5 * ratio;  // the edge is a part of it
      const {data, width} = canvas.getContext("2d").getImageData(
        (x - half) * ratio, (y + 12 * view.scale) * ratio - height / 2, 2 * half * ratio, height);
      const isColoured = (at) => Math.max(...data.slice(at, at + 3)) - Math.min(...data.slice(at, at + 3)) > 60;
      const columns = [...Array(width).keys()].filter((column) => {
        for (let at = 4 * column; at < data.length; at += 4 * width) if (isColoured(at)) return true;
        return false;
      });
      return columns.length / width;
    })()"""
    states = "[...document.querySelectorAll('#table .state')].map(cell => cell.textContent).join()"
    with Tank(daemon.addresses, "young", count=1, pictures=False, config={"min_hits": 1024}):
        page = pages(daemon)
        shows(page, "young")
        for key in "ti":  # without trails and ids
            page.press(key)
        page.wait(f"{states} === 'tentative'")
        page.run("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        assert 0.3 < page.run(read) < 0.9
        at = daemon.addresses
        with Client(at["ingest"], at["tracks"], at["control"]) as client:
            client.configure("young", {"min_hits": 1})
        page.wait(f"{states} === 'present'")
        page.run("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        assert page.run(read) > 0.95


def test_the_table_names_a_track_in_the_box_of_another_one(pages: Any, daemon: DaemonProcess) -> None:
    states = "[...document.querySelectorAll('#table .state')].map(cell => cell.textContent).join()"
    at, stop = daemon.addresses, threading.Event()

    def send() -> None:
        with (
            Client(at["ingest"], at["tracks"], at["control"]) as client,
            client.open_stream("pair", reply="tracks") as stream,
        ):
            seq = 0
            while not stop.is_set():  # they meet, and stay in one box
                away = 5.0 * (min(seq, 19) - 20)
                boxes = np.array([[280 + away, 180, 320 + away, 220], [280 - away, 202, 320 - away, 242]], np.float32)
                if seq > 16:
                    boxes = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]
                stream.track(np.zeros((400, 600), np.uint8), Detections(boxes=boxes))
                seq += 1
                stop.wait(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        page = pages(daemon)
        shows(page, "pair")
        page.wait(f"{states} === 'present,merged with 0'")
    finally:
        stop.set()
        sender.join(10)


def test_the_token_is_asked_for_once_and_kept_in_memory_only(pages: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-some-length\n")
    file.chmod(0o600)
    with daemon_here(security={"http_token_file": str(file)}) as daemon, Tank(daemon.addresses, "tank"):
        page = pages(daemon)
        page.wait("document.getElementById('token-dialog')?.open", 30)
        page.click_on("#token")
        page.type("wrong")
        page.press("Enter")
        page.wait("document.getElementById('token-reason').textContent.includes('wrong')")
        page.click_on("#token")
        page.type("a-token-of-some-length")
        page.press("Enter")
        shows(page, "tank")
        assert page.state["mayAct"]
        kept = page.run("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        assert "a-token-of-some-length" not in kept


def test_a_page_that_may_only_read_offers_no_acts(pages: Any, tmp_path: Path) -> None:
    private = {"control": f"ipc://{tmp_path}/private/control"}
    with daemon_here(endpoints=private) as daemon, Tank(daemon.addresses, "tank"):
        page = pages(daemon)
        shows(page, "tank")
        assert not page.state["mayAct"]
        page.press("j")
        page.wait("!document.getElementById('selection').hidden")
        seen = page.run("[...document.querySelectorAll('#acts, #stream-acts')].filter(part => !part.hidden).length")
        assert seen == 0
        page.press("s")
        assert page.run("document.getElementById('pick-banner').hidden")


def test_the_page_has_labels_for_a_screen_reader_and_remembers_the_theme(
    pages: Any, daemon: DaemonProcess, tank: Tank
) -> None:
    page = pages(daemon, scheme="light")
    shows(page, "tank")
    nameless = page.run(
        "[...document.querySelectorAll('button, input, canvas:not([aria-hidden])')].filter(part =>"
        " !(part.getAttribute('aria-label') || part.textContent.trim())).map(part => part.outerHTML)"
    )
    assert nameless == []
    assert page.run("document.getElementById('log').getAttribute('aria-live')") == "polite"
    page.wait("document.getElementById('picture').getAttribute('aria-label').includes('tracks')")
    assert page.run("document.documentElement.dataset.theme") == "light"
    page.click_on("#theme")
    assert page.run("document.documentElement.dataset.theme") == "dark"
    page.press("?")
    page.wait("document.getElementById('help-dialog').open")
    page.press("Escape")
    page.wait("!document.getElementById('help-dialog').open")
    page.call("Page.reload")
    page.wait("window.trackdViewer && document.documentElement.dataset.theme === 'dark'")


def test_the_pages_messagepack_agrees_with_the_library(pages: Any, daemon: DaemonProcess) -> None:
    import msgpack

    values = [
        None, True, False, 0, 127, 128, 255, 256, 65_535, 65_536, -1, -32, -33, -129, -40_000, 2**32, -(2**40),
        2**53 - 1, 0.5, -1e300, "", "tank", "Fischöl 鱼", "x" * 300, [], list(range(20)), {"a": {"b": [1, [2]]}},
        ["y" * 70_000],
    ]  # fmt: skip
    packed = list(msgpack.packb(values))
    page = pages(daemon)
    read = page.run(f"import('/static/msgpack.js').then(m => m.decode(new Uint8Array({json.dumps(packed)}).buffer))")
    assert read == values
    written = page.run(f"import('/static/msgpack.js').then(m => Array.from(m.encode({json.dumps(values)})))")
    assert msgpack.unpackb(bytes(written)) == values
    broken = [[], [0x93, 1], [0xC1], [0xD7, 0, 0], [1, 1], [0xDF, 255, 255, 255, 255]]
    cut = page.run(
        f"import('/static/msgpack.js').then(m => {json.dumps(broken)}.map(bytes => {{"
        " try { m.decode(new Uint8Array(bytes).buffer); return 'read'; } catch (error) { return error.name; } }))"
    )
    assert cut == ["RangeError"] * 6


def test_all_files_of_the_page_together_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in STATIC.rglob("*") if path.is_file()}
    assert {"index.html", "viewer.js", "viewer.css"} <= set(sizes)
    print(f"{sum(sizes.values())} bytes in {len(sizes)} files")
    assert sum(sizes.values()) <= MAX_BYTES


def test_circles_of_the_tank_do_not_touch() -> None:
    from tank import SIDE, centres

    for seq in range(20):
        places = centres(5, seq, 0.5)
        apart = np.abs(places[:, None] - places[None]).max(axis=2) + 1000 * np.eye(5)
        assert apart.min() > SIDE
