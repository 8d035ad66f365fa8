"""The pause of a sender that finds the queue full. The clock is passed in."""

from __future__ import annotations

import pytest

from trackd_client.sending.pace import MAX_PAUSE_S, Pace


def test_the_pause_ends_when_a_quarter_of_the_queue_should_be_free():
    pace = Pace(now=10.0, next_seq=0)
    assert pace.pause_s(now=10.032, next_seq=32, unacked=32) == pytest.approx(0.008)  # 1 ms a frame, 8 frames


def test_the_rate_is_that_of_the_last_round_only():
    pace = Pace(now=0.0, next_seq=0)
    pace.pause_s(now=100.0, next_seq=32, unacked=32)
    assert pace.pause_s(now=100.008, next_seq=48, unacked=32) == pytest.approx(0.004)


def test_the_pause_is_bounded_for_a_slow_daemon():
    assert Pace(now=0.0, next_seq=0).pause_s(now=60.0, next_seq=32, unacked=32) == MAX_PAUSE_S


@pytest.mark.parametrize("unacked", [0, 1, 7])
def test_a_short_queue_is_refilled_frame_by_frame(unacked):
    assert Pace(now=0.0, next_seq=0).pause_s(now=1.0, next_seq=100, unacked=unacked) == 0


@pytest.mark.parametrize("next_seq", [50, 3])
def test_without_frames_between_two_full_queues_there_is_no_pause(next_seq):
    # The queue was full all the time, or the daemon began a new epoch with a lower seq.
    assert Pace(now=0.0, next_seq=50).pause_s(now=1.0, next_seq=next_seq, unacked=32) == 0
