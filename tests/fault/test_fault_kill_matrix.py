"""No identity is lost: after kills and cuts each stream reads as in an uninterrupted run, id for id.

Four cameras in a separate process send frames; an SDK subscriber reads each stream from the first frame to the last.
All kills at labelled points happen in one run, one after the other: each daemon but the last dies at its label.
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
from follower import content

# The counts lie under load. They count frames, transactions, or snapshots after the four that the streams' resume
# stores. The trims are late, when there are old rows to trim. A SIGTERM leads to `fold`.
CRASHES = {
    "before_receive": 100, "after_receive": 100, "before_publish": 100, "after_publish": 100, "before_ack": 100,
    "after_ack": 100, "before_journal": 25, "after_journal": 25, "before_snapshot": 7, "after_snapshot": 5,
    "in_snapshot": 7, "before_head": 25, "before_trim": 7, "after_trim": 7, "before_fold": 1, "after_fold": 1,
}  # fmt: skip
LABELS = list(CRASHES) * 3 if SOAK else [label for label in CRASHES if "fold" not in label]

pytestmark = pytest.mark.timeout(900)  # the first test to use a fixture waits for its whole run


@dataclass
class Death:
    """The end of a daemon, and how many settlements of each stream had been read by then."""

    code: int
    stderr: str
    counts: list[int]


@pytest.fixture(scope="module")
def uninterrupted():
    with Uninterrupted() as run:
        yield run


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The run with a kill at every label, and its deaths."""
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


@pytest.mark.parametrize("number", range(len(LABELS)), ids=[f"{label}-{n}" for n, label in enumerate(LABELS)])
def test_after_a_kill_at_a_labelled_point_the_next_daemon_continues_with_the_same_ids(labelled, uninterrupted, number):
    run, deaths = labelled
    death = deaths[number]
    assert death.code == -signal.SIGKILL
    assert death.stderr == f"killed at {LABELS[number]}\n"
    # The next settlements of each stream. A daemon may die before a subscriber has reconnected to it.
    later = [*(each.counts for each in deaths[number + 1 :]), run.sent]
    until = next(counts for counts in later if all(map(operator.gt, counts, death.counts)))
    expected = uninterrupted.rows(until)
    for camera, name in enumerate(STREAMS):
        part = slice(death.counts[camera], until[camera])
        assert [content(row) for row in run.follower.rows[name][part]] == [content(row) for row in expected[name][part]]


def test_over_all_kills_at_labelled_points_nothing_is_missing_and_nothing_contradicts(labelled, uninterrupted):
    run, _ = labelled
    run.check(uninterrupted)
    # Rows were trimmed from the journal during the run; without that the trim labels would test nothing.
    assert all(rows[0].seq > 0 for rows in run.history().values())


def test_after_kills_at_random_moments_under_load_nothing_is_missing_and_nothing_contradicts(tmp_path, uninterrupted):
    rng = random.Random(6)
    with FaultedRun(tmp_path) as run:
        for _ in range(rounds(3, 50)):
            time.sleep(rng.uniform(0.0, 0.8))
            run.restart_daemon()
        run.finish()
        run.check(uninterrupted)


def test_after_a_client_is_killed_under_load_the_next_client_continues(tmp_path, uninterrupted):
    rng = random.Random(7)
    with FaultedRun(tmp_path) as run:
        for number in range(rounds(2, 20)):
            time.sleep(rng.uniform(0.2, 0.6))
            run.cameras.kill()
            if number % 2:  # then the frames that the daemon had accepted and not settled are lost with both
                run.restart_daemon()
            run.cameras = Cameras(run.at)
        run.finish()
        run.check(uninterrupted)


def test_after_repeated_network_cuts_nothing_is_missing_and_nothing_contradicts(tmp_path, uninterrupted):
    rng = random.Random(8)
    with FaultedRun(tmp_path, cut=True) as run:
        for _ in range(rounds(8, 100)):
            time.sleep(rng.uniform(0.05, 0.4))
            # Either all three endpoints, or one of them.
            for name in rng.choice([list(run.proxies), *([name] for name in run.proxies)]):
                run.proxies[name].cut()
        run.finish()
        run.check(uninterrupted)
        assert all(proxy.cuts for proxy in run.proxies.values())
