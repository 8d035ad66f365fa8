"""The figures of streams: rates from counts, latency of watched streams, drops and rejects."""

from __future__ import annotations

from trackd.engine.inbox import Inbox
from trackd.engine.queue import Skip, StreamQueue
from trackd.viewer.figures import Figures
from trackd.viewer.hub import Slot, StreamRow
from trackd_client.detections import Skeleton
from trackd_client.protocol import ErrorCode, FrameHead, Status

S = 1_000_000_000
ROW = StreamRow("cam", 3, "motion", 10, Skeleton(("a", "b"), ((0, 1),)), (48, 64), 32)


def settle(
    inbox: Inbox, queue: StreamQueue, n: int, status: Status, reason: str, code: ErrorCode | None = None
) -> None:
    for _ in range(n):
        seq = queue.ledger.received
        inbox.put(queue, Skip(FrameHead("cam", seq, seq, seq), status, reason, 0, code))
        inbox.book(queue, seq, status, reason, code)


def figures_of(n: int = 1) -> tuple[Inbox, StreamQueue, Figures]:
    inbox, queue = Inbox(1 << 20), StreamQueue("cam", 32)
    inbox.add(queue)
    return inbox, queue, Figures(inbox)


def test_the_rate_is_that_of_the_frames_settled_since_the_last_list():
    inbox, queue, figures = figures_of()
    assert figures.of([ROW], {}, 0)[1]["cam"]["rate"] == 0
    settle(inbox, queue, 60, Status.TRACKED, "")
    assert figures.of([ROW], {}, 2 * S)[1]["cam"]["rate"] == 30
    settle(inbox, queue, 5, Status.TRACKED, "")
    assert figures.of([ROW], {}, int(2.01 * S))[1]["cam"]["rate"] == 30  # too soon for another measurement
    assert figures.of([ROW], {}, 3 * S)[1]["cam"]["rate"] == 5


def test_drops_have_their_reasons_and_rejects_their_codes():
    inbox, queue, figures = figures_of()
    settle(inbox, queue, 2, Status.DROPPED, "overload")
    settle(inbox, queue, 3, Status.REJECTED, "no", ErrorCode.INVALID_FRAME)
    (row,), stats = figures.of([ROW], {}, 0)
    assert stats["cam"]["drops"] == {"overload": 2}
    assert (stats["cam"]["rejects"], stats["cam"]["rejects_by_code"]) == (3, {"invalid_frame": 3})
    assert (row["dropped"], row["rejected"], row["received"]) == (2, 3, 5)
    assert row["skeleton"] == {"nodes": ("a", "b"), "edges": ((0, 1),)}
    assert row["frame_shape"] == [48, 64]


def test_the_latency_is_that_of_the_last_frames_of_a_watched_stream():
    _, _, figures = figures_of()
    slot = Slot(lambda: None)
    assert figures.of([ROW], {"cam": slot}, 0)[1]["cam"]["latency_ms"] is None
    slot.totals_us.extend(range(1000, 102_000, 1000))
    assert figures.of([ROW], {"cam": slot}, S)[1]["cam"]["latency_ms"] == [51.0, 100.0]


def test_a_stream_that_cannot_be_tracked_has_its_reason_and_no_figures():
    _, _, figures = figures_of()
    (row,), stats = figures.of([StreamRow("old", 1, "m", 5, unavailable="no model")], {}, 0)
    assert (row["unavailable"], stats) == ("no model", {})
