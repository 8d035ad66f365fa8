"""The viewer's socket of a real daemon: pictures with their settlements, requests, refusals, and hostile pages."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import msgpack
import numpy as np
import psutil
import pytest
from daemon_process import DaemonProcess, fixed_ports, wait_until
from viewer_page import SIZE, Camera, Page, box_of, daemon_here, seq_image, seq_of, small_socket, upgrade
from websockets.exceptions import ConnectionClosed, InvalidStatus

from trackd.daemon import Daemon
from trackd_client.protocol import EncodedImage

TOKEN = "the-token-of-this-test-0123456789"


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess("viewer.pages=4") as process:
        yield process
        code, log = process.stop()
    assert code == 0
    assert "Traceback" not in log, log  # whatever the pages of these tests have sent


@pytest.fixture(scope="module")
def camera(daemon: DaemonProcess) -> Iterator[Camera]:
    """A camera that runs beside all tests: what a page does must not stop it."""
    with Camera(daemon.addresses) as running:
        yield running


def wait_for_page(daemon: DaemonProcess, *streams: str, **options) -> Page:
    """Open a page, and wait until one that has ended makes room for it."""
    deadline = time.monotonic() + 20
    while True:
        page = Page(daemon, **options)
        message = page.receive()
        if message["type"] == "hello":
            if streams:
                page.watch(*streams)
            return page
        page.close()
        assert time.monotonic() < deadline, message
        time.sleep(0.1)


def status_of(daemon: Daemon, path: str) -> int:
    """Return the status of an HTTP request."""
    try:
        with urllib.request.urlopen(daemon.addresses["http"] + path, timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def assert_runs(camera: Camera) -> None:
    """Check that further frames of a camera are settled."""
    first = camera.seq
    wait_until(lambda: camera.seq > first + 40, 30, "more frames than the camera may send without an ack")


def test_a_message_holds_the_settlement_and_the_picture_of_one_frame(daemon, camera):
    with wait_for_page(daemon, "cam") as page:
        frames = [page.frame() for _ in range(20)]
    for frame in frames:
        assert seq_of(frame["image"]) == frame["seq"] % 65_536
        assert np.frombuffer(frame["boxes"], "<f4").tolist() == box_of(frame["seq"]).ravel().tolist()
        assert (frame["size"], frame["n"], frame["status"]) == ([SIZE, SIZE], 1, "tracked")
    assert all(second["seq"] > first["seq"] for first, second in pairwise(frames))


def test_pages_get_the_same_stream_each_at_its_own_size(daemon, camera):
    with wait_for_page(daemon) as large, wait_for_page(daemon) as small:
        large.watch("cam", width=640)
        small.watch("cam", width=64)
        for page in (large, small):
            for _ in range(3):
                frame = page.frame()
                assert seq_of(frame["image"]) == frame["seq"]
        assert len(small.frame()["image"]) < len(large.frame()["image"])


def test_streams_without_images_with_files_and_with_16_bit_images_in_shared_memory_are_shown_too(daemon):
    def encoded(seq: int) -> EncodedImage:
        return EncodedImage("jpeg", cv2.imencode(".jpg", seq_image(seq))[1].tobytes())

    def deep(seq: int) -> np.ndarray:
        return seq_image(seq)[:, :, 0] * np.uint16(8) + np.uint16(1000)

    with (
        Camera(daemon.addresses, "plain", image=None),
        Camera(daemon.addresses, "deep", image=deep, shared_memory=True),
        Camera(daemon.addresses, "files", image=encoded),
        wait_for_page(daemon, "plain", "deep", "files") as page,
    ):
        plain = page.frame("plain")
        assert (plain["image"], plain["size"], plain["n"]) == (None, None, 1)
        for name in ("files", "deep"):
            frame = page.frame(name)
            assert seq_of(frame["image"]) == frame["seq"]


def test_colours_arrive_as_they_were_sent(daemon):
    red = np.zeros((64, 64, 3), np.uint8)
    red[:, :, 0] = 255  # raw images are RGB
    with Camera(daemon.addresses, "red", image=lambda seq: red), wait_for_page(daemon, "red") as page:
        pixels = cv2.imdecode(np.frombuffer(page.frame("red")["image"], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 8


def test_the_changes_of_all_frames_reach_a_page_that_sees_few_of_them(daemon):
    with wait_for_page(daemon) as page:
        page.watch("short", fps=1)
        with Camera(daemon.addresses, "short", pace_s=0.01) as camera:
            page.until(lambda m: m["type"] == "event" and (m["stream"], m["event"]) == ("short", "opened"))
            frames = [page.frame("short") for _ in range(3)]
            assert frames[-1]["seq"] - frames[0]["seq"] > 5
            assert camera.seq >= frames[-1]["seq"] - 1
    new_ids = [track for frame in frames for change in frame["changes"] for track in change["new"]]
    assert new_ids[0] == 0
    assert len(set(new_ids)) == len(new_ids)


def test_streams_come_with_their_figures_at_once_and_each_second(daemon, camera):
    with wait_for_page(daemon, "cam") as page:
        first = page.until(lambda m: m["type"] == "streams")
        assert "cam" in {row["stream"] for row in first["streams"]}
        page.until(lambda m: m["type"] == "streams" and (m["stats"]["cam"]["latency_ms"] or [0])[0] > 0)
        told = page.until(lambda m: m["type"] == "streams" and m["stats"]["cam"]["rate"] > 0)
        assert told["stats"]["cam"]["rejects"] == 0
        with Camera(daemon.addresses, "opened-later"):
            page.until(lambda m: m["type"] == "event" and (m["stream"], m["event"]) == ("opened-later", "opened"))
            page.until(lambda m: m["type"] == "streams" and "opened-later" in m["stats"])


def test_requests_are_answered_as_on_the_control_socket(daemon, camera):
    with wait_for_page(daemon) as page:
        assert page.request("status")["result"]["ready"] is True
        assert [row["name"] for row in page.request("models")["result"]] == ["motion"]
        live = page.request("tracks.live", stream="cam")["result"]
        assert live["tracks"]
        rows = page.request("history", stream="cam", limit=3)["result"]
        assert len(rows) == 3
        assert rows[0]["boxes"][0] == box_of(rows[0]["seq"])[0].tolist()
        assert page.request("tracks.live", stream="none")["error"]["code"] == "unknown_stream"
        for method in ("drain", "model.load", "stream.configure", "nothing"):
            assert page.request(method, stream="cam")["error"]["code"] == "bad_message"
        epoch = page.request("stream.reset", stream="cam")["result"]["epoch"]
        page.until(lambda m: m["type"] == "event" and (m["event"], m["epoch"]) == ("reset", epoch))
    assert_runs(camera)


def test_many_requests_at_once_are_all_answered(daemon, camera):
    with wait_for_page(daemon) as page:
        for number in range(60):
            page.send(type="request", id=1000 + number, method="history", params={"stream": "cam", "limit": 50})
        answered = {page.until(lambda m: m["type"] == "reply")["id"] for _ in range(60)}
        assert answered == set(range(1000, 1060))
    assert_runs(camera)


def test_a_page_that_reads_nothing_gets_no_queue_of_frames_and_afterwards_the_newest(daemon):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    with (
        Camera(daemon.addresses, "noise", image=lambda seq: noise, pace_s=0.03) as camera,
        wait_for_page(daemon, "noise", sock=small_socket(daemon), max_queue=1) as page,
    ):
        page.frame("noise")
        memory = psutil.Process(daemon.process.pid).memory_info
        before, first = memory().rss, camera.seq
        wait_until(lambda: camera.seq > first + 100, 60, "a hundred frames beside a page that reads nothing")
        assert memory().rss - before < 60e6  # a hundred pictures of 0.4 MB were sent to nobody
        newest = camera.seq
        seqs = [page.frame("noise")["seq"] for _ in range(20)]
    assert all(second > first for first, second in pairwise(seqs))
    assert max(second - first for first, second in pairwise([first, *seqs])) > 30
    assert seqs[-1] >= newest


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": None},
        {"Origin": "null"},
        {"Host": "evil.example", "Origin": "http://evil.example"},  # a name that was made to resolve to this machine
        {"Host": "evil.example:9570", "Origin": "http://evil.example:9570"},
        {"Host": "localhost"},  # the port differs from that of Origin
    ],
)
def test_a_page_of_another_site_is_refused(daemon, headers):
    status, body = upgrade(daemon, **headers)
    assert status == 403
    assert "Host" in body or "Origin" in body


def test_a_page_of_the_daemon_itself_is_admitted_and_there_is_no_other_socket(daemon):
    assert upgrade(daemon)[0] == 101
    port = daemon.addresses["http"].rpartition(":")[2]
    assert upgrade(daemon, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 101
    assert upgrade(daemon, "/metrics")[0] == 403
    assert upgrade(daemon, "/viewer/other")[0] == 403


@pytest.mark.parametrize(
    "junk",
    [
        "text", b"", b"\xc1", b"\xff" * 1000, msgpack.packb([1]), msgpack.packb({"type": "watch", "streams": 5}),
        msgpack.packb({"type": "hello", "token": None}), b"\x81\xa4type" + b"\x91" * 60_000,
        msgpack.packb({"type": "request", "id": 2**64 - 1, "method": "status"}),
    ],
)  # fmt: skip
def test_a_message_that_is_not_valid_closes_its_page_alone(daemon, camera, junk):
    with wait_for_page(daemon, "cam") as witness, wait_for_page(daemon) as page:
        page.socket.send(junk)
        with pytest.raises(ConnectionClosed) as closed:
            page.until(lambda message: False)
        assert closed.value.rcvd.code == 4400
        assert closed.value.rcvd.reason
        witness.frame()


def test_a_message_of_more_than_64_kib_closes_its_page_alone(daemon, camera):
    with wait_for_page(daemon, "cam") as witness, wait_for_page(daemon) as page:
        page.socket.send(b"\0" * 65_537)
        with pytest.raises(ConnectionClosed) as closed:
            page.until(lambda message: False)
        assert closed.value.rcvd.code == 1009
        witness.frame()


def test_only_so_many_pages_are_admitted_and_sockets_without_hello_take_no_place(daemon, camera):
    silent = [Page(daemon, hello=False) for _ in range(40)]
    pages = [wait_for_page(daemon, "cam") for _ in range(4)]
    with Page(daemon) as fifth:
        assert "viewer.pages" in fifth.until(lambda m: m["type"] == "refused")["reason"]
        with pytest.raises(ConnectionClosed) as closed:
            fifth.receive()
        assert closed.value.rcvd.code == 4429
    assert daemon.get("/healthz")[0] == 200
    for page in pages:
        page.frame()
        page.close()
    with pytest.raises(ConnectionClosed) as closed:  # hello has to come within 5 s
        silent[-1].socket.recv(30)
    assert closed.value.rcvd.code == 4400
    for page in silent:
        page.close()
    assert_runs(camera)


def test_a_page_needs_the_token_and_gives_it_in_its_first_message(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with daemon_here(security={"http_token_file": str(file)}) as daemon:
        assert status_of(daemon, "/") == 200
        assert status_of(daemon, "/metrics") == 401
        for wrong in (None, "", TOKEN[:-1], TOKEN + "x"):
            with Page(daemon, wrong) as page:
                assert "token" in page.until(lambda m: m["type"] == "refused")["reason"]
                with pytest.raises(ConnectionClosed) as closed:
                    page.receive()
                assert closed.value.rcvd.code == 4401
        with Page(daemon, TOKEN) as page:
            assert page.until(lambda m: m["type"] == "hello")["control"] is True
            assert page.request("status")["result"]["ready"] is True


def test_a_page_that_may_only_read_cannot_act(tmp_path):
    with daemon_here(endpoints={"control": f"ipc://{tmp_path}/private/control"}) as daemon, Page(daemon) as page:
        assert page.until(lambda m: m["type"] == "hello")["control"] is False
        assert page.request("status")["result"]["ready"] is True
        for method in ("stream.correct", "stream.reset", "stream.close"):
            assert page.request(method, stream="cam")["error"]["code"] == "forbidden"


def test_without_the_viewer_there_is_no_page_and_no_socket():
    with daemon_here(viewer={"enabled": False}) as daemon:
        assert "viewer" not in daemon.addresses
        assert status_of(daemon, "/") == 404
        assert status_of(daemon, "/healthz") == 200
        assert upgrade(daemon)[0] == 403
        with pytest.raises(InvalidStatus):
            Page(daemon)


def test_a_page_connects_again_after_the_daemon_was_killed_and_sees_the_same_stream(tmp_path: Path):
    port = int(fixed_ports()[0].rpartition(":")[2])
    overrides = [*fixed_ports(), f"daemon.http=127.0.0.1:{port}", f"daemon.state_dir={tmp_path / 'state'}"]
    first = DaemonProcess(*overrides)
    with Camera(first.addresses) as camera:
        with Page(first) as page:
            page.watch("cam")
            seen = [page.frame() for _ in range(5)][-1]
            first.stop(signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                page.until(lambda message: False)
        with DaemonProcess(*overrides) as second, Page(second) as page:
            page.watch("cam")
            frame = page.frame()
            assert (frame["stream"], frame["epoch"]) == ("cam", seen["epoch"])
            assert frame["seq"] > seen["seq"]
            assert seq_of(frame["image"]) == frame["seq"]
            camera.stop()
            assert second.stop()[0] == 0
