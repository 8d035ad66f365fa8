"""Which frames pages get: the newest ones, at their rate, with what happened in those between."""

from __future__ import annotations

from types import SimpleNamespace

import msgpack
import numpy as np
import pytest

from trackd.engine.inbox import Inbox
from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.viewer import shower
from trackd.viewer.hub import MOST_CHANGES, Hub, Slot, StreamRow, Watch
from trackd.viewer.messages import Wish
from trackd.viewer.shower import Shower
from trackd_client.detections import Detections
from trackd_client.protocol import Event, EventName, Frame, Status, Timing, Tracks

S = 1_000_000_000
IMAGE = np.zeros((48, 64), np.uint8)


class FakePage:
    """Keeps what it is given, and sends nothing until `sent` is called."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.frames: list[dict] = []
        self.told: list[dict] = []
        self.unsent: list[Watch] = []

    def show(self, watch: Watch, message: bytes) -> None:
        self.frames.append(msgpack.unpackb(message))
        self.unsent.append(watch)

    def tell_streams(self, message: bytes) -> None:
        self.told.append(msgpack.unpackb(message))

    tell_event = tell_streams

    def sent(self) -> None:
        while self.unsent:
            self.hub.sent(self.unsent.pop())


class Viewer:
    """A hub and its thread's work, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 100 * S
        self.hub = Hub()
        self.inbox = Inbox(1 << 20)
        self.shower = Shower(self.hub, self.inbox, lambda: self.now)
        self.seq = -1

    def page(self, *streams: str, fps: int = 10, width: int = 320, image: bool = True) -> FakePage:
        page = FakePage(self.hub)
        self.hub.add(page)
        self.hub.watch(page, {name: Wish(fps, width, image) for name in streams})
        return page

    def settle(self, stream: str = "cam", status: Status = Status.TRACKED, image=IMAGE, **changes) -> None:
        """Settle the next frame, as the publisher does."""
        self.seq += 1
        slot = self.hub.watched.get(stream)
        if slot is None:
            return
        arrays = {"track_ids": np.zeros(0, np.int32), "boxes": np.zeros((0, 4), np.float32)}
        is_tracked = status is Status.TRACKED
        tracks = Tracks(
            stream, 1, self.seq, self.seq, self.seq, status, timing=Timing(total=1000), **changes,
            **(arrays if is_tracked else {}),
        )  # fmt: skip
        detections = Detections.empty() if is_tracked else None
        slot.put(tracks, SimpleNamespace(head=SimpleNamespace(image=image), detections=detections))

    def turn(self, s: float = 0.0) -> float:
        self.now += int(s * S)
        return self.shower.turn()


def test_a_page_gets_the_newest_frame_and_none_of_those_before():
    viewer = Viewer()
    page = viewer.page("cam")
    for _ in range(5):
        viewer.settle()
    viewer.turn()
    assert [frame["seq"] for frame in page.frames] == [4]
    assert page.frames[0]["image"] is not None


def test_a_page_gets_frames_at_most_at_its_rate():
    viewer = Viewer()
    page = viewer.page("cam", fps=10)
    for _ in range(100):  # one second of 100 frames/s
        viewer.settle()
        viewer.turn(0.01)
        page.sent()
    assert 9 <= len(page.frames) <= 11


@pytest.mark.parametrize(("fps", "waiting", "least", "most"), [(15, 1, 14, 16), (15, 2, 4, 6), (2, 2, 1, 3)])
def test_a_page_gets_fewer_frames_while_frames_wait_for_their_steps(fps, waiting, least, most):
    viewer = Viewer()
    page = viewer.page("cam", fps=fps)
    queue = StreamQueue("busy", 8)
    viewer.inbox.add(queue)
    for seq in range(waiting):
        viewer.inbox.put(queue, QueuedFrame(Frame("busy", seq, seq, seq, Detections.empty()), 0, 0))
    for _ in range(100):
        viewer.settle()
        viewer.turn(0.01)
        page.sent()
    assert least <= len(page.frames) <= most
    viewer.inbox.shed_oldest(queue, "overload")
    page.frames.clear()
    for _ in range(100):
        viewer.settle()
        viewer.turn(0.01)
        page.sent()
    assert fps - 1 <= len(page.frames) <= fps + 1


def test_a_page_with_an_unsent_frame_gets_no_other_one_of_that_stream():
    viewer = Viewer()
    page = viewer.page("cam", "other")
    for _ in range(10):
        viewer.settle()
        viewer.turn(1)
    viewer.settle("other")
    viewer.turn(1)
    assert [frame["stream"] for frame in page.frames] == ["cam", "other"]
    page.sent()
    viewer.turn(1)
    assert [frame["seq"] for frame in page.frames] == [0, 10, 9]


def test_a_frame_comes_with_the_changes_of_the_skipped_ones_and_no_change_comes_twice():
    viewer = Viewer()
    page = viewer.page("cam")
    for number in range(6):
        viewer.settle(new_tracks=(number,) if number % 2 else ())
        if number in (0, 3, 5):
            viewer.turn(1)
            page.sent()
    assert [[change["new"] for change in frame["changes"]] for frame in page.frames] == [[], [[1], [3]], [[5]]]


def test_the_changes_that_wait_are_bounded_and_the_newest_ones_stay():
    viewer = Viewer()
    page = viewer.page("cam")
    for number in range(MOST_CHANGES + 50):
        viewer.settle(ended_tracks=(number,))
    viewer.turn()
    changes = page.frames[0]["changes"]
    assert len(changes) == MOST_CHANGES
    assert changes[-1]["ended"] == [MOST_CHANGES + 49]


def test_a_tracked_frame_is_preferred_to_a_later_one_that_was_dropped():
    viewer = Viewer()
    page = viewer.page("cam")
    viewer.settle()
    viewer.settle(status=Status.DROPPED, reason="overload")
    viewer.turn(1)
    page.sent()
    viewer.turn(1)
    assert [(frame["seq"], frame["status"]) for frame in page.frames] == [(0, "tracked"), (1, "dropped")]
    assert page.frames[1]["image"] is None


def test_an_image_is_encoded_once_for_all_pages_that_ask_for_its_size(monkeypatch):
    made = []
    monkeypatch.setattr(shower, "picture", lambda image, width: made.append(width) or b"file")
    viewer = Viewer()
    pages = [viewer.page("cam", fps=fps) for fps in (15, 15, 4)] + [viewer.page("cam", width=640)]
    viewer.settle()
    viewer.turn()
    viewer.page("cam")
    pages[0].sent()
    viewer.turn(0.01)
    assert made == [320, 640]
    assert all(len(page.frames) == 1 for page in pages)


def test_no_image_is_kept_of_a_stream_whose_pages_want_none():
    viewer = Viewer()
    page = viewer.page("cam", image=False)
    viewer.settle()
    assert viewer.hub.watched["cam"].latest.image is None
    viewer.turn()
    assert page.frames[0]["image"] is None


def test_a_stream_that_no_page_watches_has_no_slot():
    viewer = Viewer()
    page, other = viewer.page("cam"), viewer.page("cam", "other")
    viewer.hub.watch(other, {"cam": Wish(15, 64, True)})
    assert set(viewer.hub.watched) == {"cam"}
    viewer.hub.remove(page)
    viewer.hub.remove(other)
    assert viewer.hub.watched == {}
    assert viewer.hub.pages == ()


def test_a_page_that_watches_a_stream_again_at_another_rate_does_not_get_its_frame_again():
    viewer = Viewer()
    page = viewer.page("cam")
    viewer.settle()
    viewer.turn()
    page.sent()
    viewer.hub.watch(page, {"cam": Wish(15, 1280, True)})
    viewer.turn(1)
    assert len(page.frames) == 1


def test_a_damaged_image_is_not_shown_and_its_frame_is(monkeypatch):
    def fail(image, width):
        raise shower.PictureError("damaged")

    monkeypatch.setattr(shower, "picture", fail)
    viewer = Viewer()
    page = viewer.page("cam")
    viewer.settle()
    viewer.turn()
    assert (page.frames[0]["image"], page.frames[0]["size"]) == (None, [64, 48])


def test_the_io_thread_calls_only_for_a_frame_that_a_page_waits_for():
    viewer = Viewer()
    calls = []
    slot = Slot(lambda: calls.append(1))
    viewer.hub.watched["cam"] = slot
    page = FakePage(viewer.hub)
    slot.watches = (Watch(page, "cam", Wish(10, 320, True)),)

    def calls_after(frames: int) -> int:
        before = len(calls)
        for _ in range(frames):
            viewer.settle()
        return len(calls) - before

    assert calls_after(50) == 1
    viewer.turn()
    assert calls_after(5) == 1
    viewer.turn()
    assert calls_after(5) == 0  # the page has not sent its frame
    page.sent()
    assert viewer.turn() == pytest.approx(0.1)
    assert calls_after(5) == 0  # the next one is due at that time, without a call
    viewer.turn(0.1)
    page.sent()
    viewer.turn()
    assert calls_after(5) == 1


def test_the_viewers_thread_is_called_once_a_frame_is_sent_if_a_newer_one_has_come():
    viewer = Viewer()
    page = viewer.page("cam")
    viewer.settle()
    viewer.turn()
    page.sent()
    viewer.settle()
    viewer.turn(1)
    while not viewer.hub.calls.empty():
        viewer.hub.calls.get_nowait()
    viewer.settle()
    viewer.turn(1)
    viewer.hub.calls.get_nowait()  # for the frame that came after the first one
    assert viewer.hub.calls.empty()
    page.sent()
    viewer.hub.calls.get_nowait()
    viewer.turn(1)
    assert [frame["seq"] for frame in page.frames] == [0, 1, 2]


def test_events_and_the_list_of_streams_are_told_to_every_page():
    viewer = Viewer()
    pages = [viewer.page("cam"), viewer.page()]
    viewer.hub.tell(Event("cam", EventName.RESET, 3, 9, {"reason": "r"}))
    viewer.hub.list_streams([StreamRow("cam", 3, "motion", 10)])
    viewer.turn()
    for page in pages:
        event, streams = page.told
        assert event == {
            "type": "event", "stream": "cam", "event": "reset", "epoch": 3, "last_seq": 9, "detail": {"reason": "r"}
        }  # fmt: skip
        assert streams["streams"][0]["stream"] == "cam"
