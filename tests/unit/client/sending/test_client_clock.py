"""The client's estimate of the daemon's clock: the uncertainty of a ping, and the choice of the best ping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd_client.sending.clock import DRIFT, Clock, ClockOffset

MS = 1_000_000
S = 1_000 * MS
START = 1_800_000_000 * S


def ping(clock: Clock, sent_ns: int, *, offset_ns: int, there_ns: int, back_ns: int) -> int:
    """Add the sample of a ping to a daemon whose clock is `offset_ns` ahead. Return the time of the answer."""
    received_ns = sent_ns + there_ns + back_ns
    clock.add_sample(sent_ns, sent_ns + there_ns + offset_ns, received_ns)
    return received_ns


def test_the_offset_is_unknown_before_the_first_answer():
    assert Clock().at(START) is None


def test_equal_delays_of_ping_and_answer_give_the_exact_offset():
    clock = Clock()
    now = ping(clock, START, offset_ns=-7 * S, there_ns=2 * MS, back_ns=2 * MS)
    assert clock.at(now) == ClockOffset(-7 * S, 2 * MS)


@given(
    offset_ns=st.integers(-(10**18), 10**18),
    ways=st.lists(st.tuples(st.integers(0, S), st.integers(0, S), st.integers(0, 60 * S)), min_size=1, max_size=20),
)
def test_the_error_of_the_offset_is_at_most_the_uncertainty(offset_ns, ways):
    clock, now = Clock(), START
    for there_ns, back_ns, pause_ns in ways:
        now = ping(clock, now + pause_ns, offset_ns=offset_ns, there_ns=there_ns, back_ns=back_ns)
        known = clock.at(now)
        assert abs(known.offset_ns - offset_ns) <= known.uncertainty_ns


@given(drift=st.floats(-DRIFT, DRIFT), halves=st.lists(st.integers(1_000, 50 * MS), min_size=2, max_size=30))
def test_the_error_is_at_most_the_uncertainty_if_the_clocks_drift(drift, halves):
    clock, now = Clock(), START
    for half_ns in halves:
        now += 2 * S
        offset_ns = int((now - START) * drift)
        now = ping(clock, now, offset_ns=offset_ns, there_ns=half_ns // 4, back_ns=half_ns)
        known = clock.at(now)
        assert abs(known.offset_ns - offset_ns) <= known.uncertainty_ns + 50 * MS * DRIFT + 2


def test_the_ping_with_the_shortest_round_trip_is_used():
    clock, now = Clock(), START
    for there_ns, back_ns in [(40 * MS, 1 * MS), (1 * MS, 1 * MS), (9 * MS, 0)]:
        now = ping(clock, now, offset_ns=S, there_ns=there_ns, back_ns=back_ns)
    assert clock.samples == 3
    assert clock.at(now).offset_ns == S
    assert clock.at(now).uncertainty_ns == pytest.approx(MS, abs=1000)


def test_a_new_longer_ping_replaces_an_old_short_one():
    clock = Clock()
    now = ping(clock, START, offset_ns=0, there_ns=MS, back_ns=MS)
    now = ping(clock, now + 10 * S, offset_ns=0, there_ns=3 * MS, back_ns=MS)
    assert clock.at(now).offset_ns == 0  # after ten seconds the drift is 0.3 ms
    now = ping(clock, now + 60 * S, offset_ns=0, there_ns=3 * MS, back_ns=MS)
    assert clock.at(now) == ClockOffset(1 * MS, 2 * MS)


def test_the_uncertainty_grows_with_the_age_of_the_sample():
    clock = Clock()
    now = ping(clock, START, offset_ns=0, there_ns=MS, back_ns=MS)
    assert clock.at(now + 100 * S).uncertainty_ns == MS + int(100 * S * DRIFT)


@pytest.mark.parametrize("step_s", [-3600, -1, 1, 3600])
def test_a_clock_that_was_set_is_used_at_once_although_its_ping_was_longer(step_s):
    clock = Clock()
    now = ping(clock, START, offset_ns=0, there_ns=MS, back_ns=MS)
    now = ping(clock, now + S, offset_ns=step_s * S, there_ns=5 * MS, back_ns=5 * MS)
    assert clock.at(now) == ClockOffset(step_s * S, 5 * MS)


def test_an_answer_received_before_its_ping_was_sent_is_ignored():
    clock = Clock()
    now = ping(clock, START, offset_ns=5, there_ns=MS, back_ns=MS)
    clock.add_sample(now, now, now - S)  # this host's clock was set back while the ping was on its way
    assert (clock.samples, clock.at(now).offset_ns) == (1, 5)


def test_a_local_time_is_converted_to_the_daemons_clock():
    assert ClockOffset(offset_ns=-5, uncertainty_ns=1).daemon_ns(100) == 95
