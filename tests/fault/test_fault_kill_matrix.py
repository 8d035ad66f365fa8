"""No identity lost: killed anywhere, cut off anywhere, every stream is read as if nothing had happened, id for id.

Four cameras in a process of their own send; an SDK subscriber reads each stream from the first frame to the last. All
kills at labelled points hit one and the same run, one after the other: each daemon but the last dies at its label.
"""

from __future__ import annotations

import operator
import random
import signal
import time
from dataclasses import dataclass

import pytest
from cameras import STREAMS, Cameras
from fault_tools import SOAK, rounds
from faulted_run import FaultedRun, Uninterrupted
from follower import said

# Each with a count that lies amid the load: of frames, of transactions, of snapshots behind the four that the streams'
# coming back makes. The trims come late, when there is something to trim; `fold` is what a SIGTERM comes to.
CRASHES = {
    "before_receive": 100, "after_receive": 100, "before_publish": 100, "after_publish": 100, "before_ack": 100,
    "after_ack": 100, "before_journal": 25, "after_journal": 25, "before_snapshot": 7, "after_snapshot": 5,
    "before_trim": 7, "after_trim": 7, "before_fold": 1, "after_fold": 1,
}  # fmt: skip
LABELS = list(CRASHES) * 3 if SOAK else [label for label in CRASHES if "fold" not in label]


@dataclass
class Death:
    """How a daemon ended, and what had been read of each stream by then."""

    code: int
    stderr: str
    given: list[int]


@pytest.fixture(scope="module")
def uninterrupted():
    with Uninterrupted() as run:
        yield run


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The run that is hit at every label, and its deaths."""
    with FaultedRun(tmp_path_factory.mktemp("labelled"), crash_at=f"{LABELS[0]}:{CRASHES[LABELS[0]]}") as run:
        deaths = []
        for label, successor in zip(LABELS, [*LABELS[1:], ""], strict=True):
            stored = "snapshot" in label or "trim" in label
            if stored or "fold" in label:
                run.wait_for_load()
            if "fold" in label:
                run.daemon.process.send_signal(signal.SIGTERM)
            code, stderr = run.wait_for_death(*[run.store_snapshots] * stored)
            deaths.append(Death(code, stderr, run.follower.counts()))
            run.start_daemon(f"{successor}:{CRASHES[successor]}" if successor else "")
        run.finish()
        yield run, deaths


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(len(LABELS)), ids=[f"{label}-{n}" for n, label in enumerate(LABELS)])
def test_killed_at_a_labelled_point_the_daemons_successor_goes_on_with_the_same_ids(labelled, uninterrupted, number):
    run, deaths = labelled
    death = deaths[number]
    assert death.code == -signal.SIGKILL
    assert death.stderr == f"killed at {LABELS[number]}\n"
    # What came of each stream behind it; a daemon may die before a subscriber has come back to it.
    later = [*(each.given for each in deaths[number + 1 :]), run.sent]
    until = next(counts for counts in later if all(map(operator.gt, counts, death.given)))
    expected = uninterrupted.rows(until)
    for camera, name in enumerate(STREAMS):
        there = slice(death.given[camera], until[camera])
        assert [said(row) for row in run.follower.rows[name][there]] == [said(row) for row in expected[name][there]]


def test_over_all_kills_at_labelled_points_nothing_is_missing_and_nothing_contradicts(labelled, uninterrupted):
    run, _ = labelled
    run.check(uninterrupted)
    # Rows were trimmed from the journal on the way, or the labels of the trim would have been idle.
    assert all(rows[0].seq > 0 for rows in run.remembered().values())


@pytest.mark.timeout(900)
def test_killed_at_random_moments_under_load_nothing_is_missing_and_nothing_contradicts(tmp_path, uninterrupted):
    chance = random.Random(6)
    with FaultedRun(tmp_path) as run:
        for _ in range(rounds(3, 50)):
            time.sleep(chance.uniform(0.0, 0.8))
            run.restart_daemon()
        run.finish()
        run.check(uninterrupted)


@pytest.mark.timeout(900)
def test_with_the_client_killed_amid_its_load_the_next_one_goes_on(tmp_path, uninterrupted):
    chance = random.Random(7)
    with FaultedRun(tmp_path) as run:
        for number in range(rounds(2, 20)):
            time.sleep(chance.uniform(0.2, 0.6))
            run.cameras.kill()
            if number % 2:  # what the daemon had accepted and not settled is then gone with both
                run.restart_daemon()
            run.cameras = Cameras(run.at)
        run.finish()
        run.check(uninterrupted)


@pytest.mark.timeout(900)
def test_with_the_network_cut_again_and_again_nothing_is_missing_and_nothing_contradicts(tmp_path, uninterrupted):
    chance = random.Random(8)
    with FaultedRun(tmp_path, cut=True) as run:
        for _ in range(rounds(8, 100)):
            time.sleep(chance.uniform(0.05, 0.4))
            # Now all of it, now one of the three.
            for name in chance.choice([list(run.proxies), *([name] for name in run.proxies)]):
                run.proxies[name].cut()
        run.finish()
        run.check(uninterrupted)
        assert all(proxy.cuts for proxy in run.proxies.values())
