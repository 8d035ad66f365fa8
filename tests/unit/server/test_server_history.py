"""The last settlements of a stream while those before a takeover are still read."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.server.history import History
from trackd_client.protocol import Status, Tracks

ROWS = 4


def tracks(seq: int) -> Tracks:
    ids = np.arange(ROWS, dtype=np.int32)
    return Tracks("cam", 1, seq, seq, seq * 40, Status.TRACKED, track_ids=ids, track_scores=np.ones(ROWS, np.float32))


def history(seqs: range, max_frames: int = 100, max_bytes: int = 1_000_000) -> History:
    made = History(max_frames, max_bytes)
    for seq in seqs:
        made.append(tracks(seq))
    return made


def seqs(of: History) -> list[int]:
    return [row.seq for row in of.select(None, 0, None, 1000)]


def test_older_settlements_come_before_those_that_are_here():
    made = history(range(10, 12))
    made.await_older()
    made.append(tracks(12))
    made.add_older([tracks(seq) for seq in range(10)])
    assert seqs(made) == list(range(13))


def test_the_newest_of_the_older_ones_are_kept_within_the_bounds():
    made = history(range(10, 14), max_frames=6)
    made.add_older([tracks(seq) for seq in range(10)])
    assert seqs(made) == list(range(8, 14))
    made.append(tracks(14))
    assert seqs(made) == list(range(9, 15))

    whole = history(range(100), max_frames=1000, max_bytes=20_000)
    kept = len(seqs(whole))
    assert 1 < kept < 100
    made = history(range(90, 100), max_frames=1000, max_bytes=20_000)
    made.add_older([tracks(seq) for seq in range(90)])
    assert seqs(made) == seqs(whole)


def test_a_request_waits_until_the_older_ones_are_here():
    made, answers = history(range(10, 12)), []
    made.await_older()
    made.when_complete(lambda: answers.append(seqs(made)))
    assert not answers
    made.add_older([tracks(9)])
    assert answers == [[9, 10, 11]]
    made.when_complete(lambda: answers.append("now"))
    assert answers[1:] == ["now"]


def test_requests_that_wait_are_bounded():
    made, answers = history(range(2)), []
    made.await_older()
    for number in range(1025):
        made.when_complete(lambda number=number: answers.append(number))
    assert answers == [1024]


@pytest.mark.parametrize("max_frames", [0, 1])
def test_a_history_of_no_frames_stays_so(max_frames):
    made = history(range(3), max_frames=max_frames)
    made.add_older([tracks(0)])
    assert len(seqs(made)) == max_frames
