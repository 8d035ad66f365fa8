"""A reader's position in a stream: when missing settlements are requested. The clock is passed in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trackd_client import ErrorCode, Timeout, TrackdError
from trackd_client.following.gap_filler import GRACE_S, SILENCE_S, GapFiller
from trackd_client.protocol import Event, EventName, Status, Tracks

START = 100.0


def settled(seq: int, epoch: int = 1) -> Tracks:
    return Tracks("cam", epoch, seq, seq, seq, Status.DROPPED, reason="overload")


def heartbeat(last_seq: int) -> Event:
    return Event("cam", EventName.HEARTBEAT, 1, last_seq)


class Source:
    """A daemon's history without a socket. It raises `error`, if that is set, instead of an answer."""

    tracks_endpoint = ""

    def __init__(self, *seqs: int) -> None:
        self.rows = [settled(seq) for seq in seqs]
        self.error: TrackdError | None = None
        self.live_error: TrackdError | None = None  # of the request for the position alone
        self.live_answers: Iterator[TrackdError | None] = iter(())  # the next ones
        self.requests = 0

    def live_position(self, stream: str) -> tuple[int, int]:
        self._request()
        error = next(self.live_answers, self.live_error)
        if error is not None:
            raise error
        return 1, -1

    def history(
        self, stream: str, *, epoch: int | None = None, from_seq: int | None = None, to_seq: int | None = None
    ) -> list[Tracks]:
        self._request()
        return [row for row in self.rows if (from_seq or 0) <= row.seq and (to_seq is None or row.seq <= to_seq)]

    def _request(self) -> None:
        self.requests += 1
        if self.error is not None:
            raise self.error


class Reader:
    """A gap filler that has begun at `START`, and the seqs that it has delivered."""

    def __init__(self, *history: int, until_closed: bool = False) -> None:
        self.source = Source(*history)
        self.seqs: list[int] = []
        self.gap_filler = GapFiller(
            self.source,
            "cam",
            lambda tracks: self.seqs.append(tracks.seq),
            lambda: False,
            until_closed=until_closed,
            now=START,
        )
        self.gap_filler.begin(None, START)
        self.source.requests = 0


def test_a_gap_before_a_settlement_is_filled_at_once():
    reader = Reader(0, 1, 2)
    reader.gap_filler.handle(settled(3), START)
    assert reader.seqs == [0, 1, 2, 3]


def test_a_settlement_shortly_after_its_heartbeat_needs_no_history():
    reader = Reader(0)
    reader.gap_filler.handle(heartbeat(0), START)
    reader.gap_filler.check_due(START + 0.9 * GRACE_S)
    reader.gap_filler.handle(settled(0), START + 0.9 * GRACE_S)
    reader.gap_filler.check_due(START + 2 * GRACE_S)
    assert (reader.seqs, reader.source.requests) == ([0], 0)


def test_a_settlement_missing_after_a_heartbeat_is_requested_after_the_grace_time():
    reader = Reader(0, 1)
    reader.gap_filler.handle(heartbeat(1), START)
    reader.gap_filler.check_due(START + 0.9 * GRACE_S)
    assert reader.seqs == []
    reader.gap_filler.check_due(START + GRACE_S)
    assert reader.seqs == [0, 1]


def test_a_request_without_an_answer_is_repeated_after_the_grace_time():
    reader = Reader(0, 1)
    reader.source.error = Timeout("no answer")
    reader.gap_filler.handle(settled(1), START)
    reader.source.error = None
    reader.gap_filler.check_due(START + 0.9 * GRACE_S)
    assert reader.seqs == []
    reader.gap_filler.check_due(START + GRACE_S)
    assert reader.seqs == [0, 1]


def test_a_stream_that_the_daemon_does_not_know_was_not_closed():
    reader = Reader(until_closed=True)
    reader.gap_filler.handle(settled(0), START)
    reader.source.error = TrackdError("not open", ErrorCode.UNKNOWN_STREAM)  # of `history` too
    reader.gap_filler.check_due(START + SILENCE_S)
    assert not reader.gap_filler.ended
    reader.source.error = None
    reader.gap_filler.handle(settled(1), START + SILENCE_S)
    assert reader.seqs == [0, 1]


def test_a_stream_that_is_being_closed_is_read_to_its_end():
    reader = Reader(0, 1, until_closed=True)
    reader.source.live_error = TrackdError("being closed", ErrorCode.STREAM_BUSY)
    reader.gap_filler.begin(0, START)
    assert (reader.seqs, reader.gap_filler.ended) == ([0, 1], False)
    reader.gap_filler.handle(Event("cam", EventName.CLOSED, 1, 1), START)
    assert reader.gap_filler.ended


def test_a_stream_that_is_opened_again_between_two_requests_was_not_closed():
    reader = Reader(until_closed=True)
    reader.gap_filler.handle(settled(0), START)
    answers = iter([TrackdError("not open", ErrorCode.UNKNOWN_STREAM), None])
    reader.source.live_answers = answers
    reader.gap_filler.check_due(START + SILENCE_S)
    assert not reader.gap_filler.ended


def test_a_daemon_that_is_drained_has_not_closed_the_stream():
    reader = Reader(until_closed=True)
    reader.gap_filler.handle(settled(0), START)
    reader.gap_filler.handle(Event("cam", EventName.CLOSED, 1, 0, {"reason": "…", "drained": True}), START)
    assert not reader.gap_filler.ended


@pytest.mark.parametrize("until_closed", [True, False])
def test_only_a_reader_until_closed_asks_after_a_silence_whether_the_stream_is_open(until_closed):
    reader = Reader(until_closed=until_closed)
    reader.gap_filler.handle(settled(0), START)
    reader.source.live_error = TrackdError("not open", ErrorCode.UNKNOWN_STREAM)
    reader.gap_filler.check_due(START + 0.9 * SILENCE_S)
    assert (reader.gap_filler.ended, reader.source.requests) == (False, 0)
    reader.gap_filler.check_due(START + SILENCE_S)
    # The position is refused, the history is answered, as of a closed stream; then the rest of it is read.
    assert (reader.gap_filler.ended, reader.source.requests) == (until_closed, 4 * int(until_closed))
