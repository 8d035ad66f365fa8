"""Long steps run on threads of their own: the order of a stream's frames, its ids and other streams are unchanged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from trackd.config import Config, LimitsConfig, StreamSettings, check_config
from trackd.engine.engine import LANES, Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outcome import CommandResult, Outcome, Settlement
from trackd.engine.queue import Command, QueuedFrame, StreamQueue
from trackd.engine.step import StepRunner
from trackd.engine.stream_state import StreamState
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.protocol import ErrorCode, Frame, Status

LARGE = 260  # instances of a step that is long as long as none was measured


class Held(MotionScorer):
    """A scorer whose steps of many instances wait until the test lets them go on."""

    def __init__(self) -> None:
        super().__init__(use_vis_feats=False)
        self.begun, self.released = threading.Event(), threading.Event()

    def encode(self, image: Any, instances: Instances) -> None:
        if len(instances) >= LARGE:
            self.begun.set()
            assert self.released.wait(20)


class Threads:
    """An engine with all its threads; the test is the IO thread."""

    def __init__(self, step_ms: float | None = None) -> None:
        self.inbox = Inbox(10**9)
        self.outcomes: list[tuple[Outcome, str]] = []
        self._changed = threading.Condition()
        self.engine = Engine(self.inbox, self._deliver)
        self.seqs: dict[StreamQueue, int] = {}
        self._limits = LimitsConfig(step_ms=step_ms)
        targets = [self.engine.run, *[self.engine.run_lane] * LANES]
        names = ["engine", *["lane"] * LANES]
        self.threads = [
            threading.Thread(target=target, name=name, daemon=True) for target, name in zip(targets, names, strict=True)
        ]
        for thread in self.threads:
            thread.start()

    def _deliver(self, outcomes: list[Outcome]) -> None:
        with self._changed:
            self.outcomes += [(outcome, threading.current_thread().name) for outcome in outcomes]
            self._changed.notify_all()

    def open(
        self, name: str, scorer: MotionScorer | None = None, settings: StreamSettings | None = None
    ) -> StreamQueue:
        queue = StreamQueue(name, 1000)
        settings = settings or StreamSettings.of(Config())
        made = scorer or MotionScorer(use_vis_feats=False)
        self.inbox.add(queue)
        self.engine.open(queue, StreamState(name, 1, 0, settings, None, None, lambda _: made, self._limits))
        self.seqs[queue] = 0
        return queue

    def frame(self, queue: StreamQueue, boxes: np.ndarray | int) -> None:
        seq = self.seqs[queue]
        self.seqs[queue] += 1
        detections = Detections(boxes=grid(boxes) if isinstance(boxes, int) else boxes)
        frame = Frame(queue.stream, seq, seq, seq * 10**7, detections)
        self.inbox.put(queue, QueuedFrame(frame, 0, 100))

    def turn(self) -> bool:
        """One turn of the IO thread."""
        stepped = self.engine.step_inline()
        self.inbox.wake(leave_short=stepped)
        return stepped

    def run_until(self, count: int, timeout_s: float = 20.0) -> None:
        until = time.monotonic() + timeout_s
        while len(self.outcomes) < count:
            assert time.monotonic() < until, f"{len(self.outcomes)} of {count} outcomes"
            if not self.turn():
                with self._changed:
                    self._changed.wait(0.005)

    def end(self) -> None:
        self.inbox.stop()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()

    def settled(self, queue: StreamQueue) -> list[Settlement]:
        return [each for each, _ in self.outcomes if isinstance(each, Settlement) and each.queue is queue]


def grid(n: int) -> np.ndarray:
    side = int(np.ceil(np.sqrt(n)))
    x, y = np.meshgrid(np.arange(side) * 50.0, np.arange(side) * 50.0)
    corner = np.stack([x.ravel(), y.ravel()], axis=1)[:n]
    return np.concatenate([corner, corner + 40], axis=1).astype(np.float32)


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    made.end()


def test_other_streams_are_stepped_and_commands_run_while_a_step_takes_long(threads: Threads) -> None:
    scorer = Held()
    long, other = threads.open("long", scorer), threads.open("other")
    threads.frame(long, LARGE)
    threads.turn()
    assert scorer.begun.wait(10)
    for _ in range(5):
        threads.frame(other, 3)
        assert threads.turn()
    threads.inbox.command(other, Command(-1, lambda: 1, lambda result, error: None))
    threads.run_until(6)
    assert not threads.settled(long)
    assert not threads.inbox.idle
    scorer.released.set()
    threads.run_until(7)
    assert threads.outcomes[-1][1] == "lane"


def test_the_frames_and_commands_behind_a_long_step_keep_their_order(threads: Threads) -> None:
    scorer = Held()
    long = threads.open("long", scorer)
    threads.frame(long, LARGE)
    threads.turn()
    assert scorer.begun.wait(10)
    threads.frame(long, 3)
    threads.inbox.command(long, Command(1, lambda: "after 1", lambda result, error: None))
    threads.frame(long, 3)
    assert not threads.turn()
    time.sleep(0.05)
    assert not threads.outcomes
    scorer.released.set()
    threads.run_until(4)
    order = [each.result if isinstance(each, CommandResult) else each.head.seq for each, _ in threads.outcomes]
    assert order == [0, 1, "after 1", 2]


def test_the_threads_end_once_a_long_step_has_ended(threads: Threads) -> None:
    scorer = Held()
    long = threads.open("long", scorer)
    threads.frame(long, LARGE)
    threads.frame(long, 3)
    threads.turn()
    assert scorer.begun.wait(10)
    threads.inbox.stop()
    time.sleep(0.3)
    assert all(thread.is_alive() for thread in threads.threads)
    assert not threads.inbox.over
    scorer.released.set()
    for thread in threads.threads:
        thread.join(10)
    assert [settled.head.seq for settled in threads.settled(long)] == [0, 1]


def test_a_long_step_is_no_stall_and_its_time_is_known(threads: Threads) -> None:
    scorer = Held()
    threads.frame(threads.open("long", scorer), LARGE)
    threads.turn()
    assert scorer.begun.wait(10)
    assert threads.engine.longest_step_ns() > 0
    seen = threads.engine.standing_since_ns()
    time.sleep(0.4)
    assert threads.engine.standing_since_ns() > seen, "the engine thread goes on"
    assert threads.engine.longest_step_ns() > 350_000_000
    scorer.released.set()
    threads.run_until(1)
    assert threads.engine.longest_step_ns() == 0


def test_a_stream_whose_steps_are_too_long_has_its_frames_rejected_in_order_and_others_tracked(
    threads: Threads,
) -> None:
    stream, other = threads.open("slow"), threads.open("other")
    threads.frame(stream, 400)
    threads.run_until(1)
    stream.cost.limit_ns = 1_000_000_000
    stream.cost.measured(400, stream.cost.pairs(400, 400), 0, 60e9)
    for n in (3, 400, 3, 400):
        threads.frame(stream, n)
        threads.frame(other, 3)
    threads.run_until(9)
    settled = threads.settled(stream)
    assert [each.status for each in settled[1:]] == [Status.TRACKED, Status.REJECTED] * 2
    assert [each.head.seq for each in settled] == list(range(5))
    assert settled[2].code is ErrorCode.STEP_TOO_LONG
    assert "would take about 60" in str(settled[2].reason)
    assert "limits.step_ms allows 1000" in str(settled[2].reason)
    assert stream.ledger.rejected == {ErrorCode.STEP_TOO_LONG: 2}
    assert stream.nbytes == 0
    assert all(each.status is Status.TRACKED for each in threads.settled(other))


class Slow(MotionScorer):
    """A scorer that moves the clock on while it encodes or scores."""

    def __init__(self, bench: CutBench) -> None:
        super().__init__(use_vis_feats=False)
        self.bench = bench

    def encode(self, image: Any, instances: Instances) -> None:
        self.bench.now_ns += self.bench.encode_ns

    def score(self, query: Query) -> Scores:
        self.bench.now_ns += self.bench.score_ns
        return super().score(query)


class CutBench:
    """One stream's steps with a limit of one second and a simulated clock."""

    def __init__(self, **tracker: Any) -> None:
        self.now_ns = self.encode_ns = self.score_ns = 0
        self.runner = StepRunner(Inbox(10**9), False, lambda: self.now_ns)
        self.queue = StreamQueue("cam", 8)
        settings = StreamSettings.of(check_config({"tracker": tracker}))
        limits = LimitsConfig(step_ms=1000)
        self.state = StreamState("cam", 1, 0, settings, None, None, lambda _: Slow(self), limits)
        self.runner.streams[self.queue] = self.state
        self.seq = 0

    def step(self, index: int | None = None, boxes: int = 4) -> Settlement:
        index = self.seq if index is None else index
        item = QueuedFrame(Frame("cam", self.seq, index, index * 10**7, Detections(boxes=grid(boxes))), 0, 0, pairs=1)
        self.seq += 1
        self.queue.ledger.queued += 1
        (settled,) = self.runner.run([(self.queue, item)], cuts=True)
        assert isinstance(settled, Settlement)
        return settled


def plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


@pytest.mark.parametrize("function", ["encode", "score"])
def test_a_step_that_is_cut_leaves_the_tracks_as_they_were(function: str) -> None:
    bench = CutBench()
    bench.step()
    before = repr(plain(bench.state.tracker.snapshot()))  # a NaN does not equal itself
    setattr(bench, f"{function}_ns", 2_000_000_000)
    settled = bench.step()
    assert (settled.status, settled.code) == (Status.REJECTED, ErrorCode.STEP_TOO_LONG)
    assert "stopped after 2000 ms, with 4 instances and 4 tracks; limits.step_ms allows 1000" in str(settled.reason)
    assert repr(plain(bench.state.tracker.snapshot())) == before
    setattr(bench, f"{function}_ns", 0)
    settled = bench.step()
    assert settled.assignment is not None
    assert settled.assignment.track_ids.tolist() == [0, 1, 2, 3]


def test_a_step_that_has_ended_tracks_already_is_not_cut() -> None:
    bench = CutBench(max_gap=2)
    bench.step(boxes=4)
    bench.step(boxes=2)
    bench.score_ns = 2_000_000_000
    settled = bench.step(index=20, boxes=4)
    assert settled.status is Status.TRACKED, "its tracks are not what they were before it"
    assert settled.assignment is not None
    assert settled.assignment.ended_tracks


def test_a_frame_that_fails_is_not_taken_for_a_fast_one() -> None:
    bench = CutBench()
    bench.queue.cost.measured(4, 100, 0, 10**9)
    before = bench.queue.cost.estimate_ns(4, 100)
    item = QueuedFrame(Frame("cam", 0, 0, 0, Detections(keypoints=np.zeros((4, 2, 2), np.float32))), 0, 0, pairs=100)
    bench.state.scorer.encode = None  # type: ignore[assignment]
    bench.runner.run([(bench.queue, item)], cuts=True)
    assert bench.queue.cost.estimate_ns(4, 100) == before


@pytest.mark.parametrize("seed", range(3))
def test_ids_are_the_same_with_lanes_beside_other_streams_as_in_a_tracker_alone(seed: int, threads: Threads) -> None:
    rng = np.random.default_rng(seed)
    config = check_config({"tracker": {"max_gap": 3}})
    queues = [threads.open(f"cam{number}", settings=StreamSettings.of(config)) for number in range(4)]
    frames: dict[StreamQueue, list[np.ndarray]] = {queue: [] for queue in queues}
    for _ in range(40):
        queue = queues[int(rng.integers(4))]
        n = int(rng.choice([2, 40, LARGE, 420]))
        centres = rng.uniform(0, 60 * np.sqrt(n), (n, 2))
        boxes = np.concatenate([centres, centres + 20], axis=1).astype(np.float32)
        frames[queue].append(boxes)
        threads.frame(queue, boxes)
        if rng.random() < 0.5:
            threads.turn()
    threads.run_until(40, 60)
    assert {name for _, name in threads.outcomes} >= {"lane", threading.current_thread().name}
    for queue, boxes_of in frames.items():
        tracker = Tracker(config.tracker, MotionScorer(use_vis_feats=False))
        settled = threads.settled(queue)
        assert [each.head.seq for each in settled] == list(range(len(boxes_of)))
        for seq, (boxes, each) in enumerate(zip(boxes_of, settled, strict=True)):
            instances = Instances.of(
                Detections(boxes=boxes), StreamSettings.of(config).dataset, None, "detection", None
            )
            alone = tracker.step(seq, seq * 10**7, instances, None, seq)
            assert each.assignment is not None
            np.testing.assert_array_equal(each.assignment.track_ids, alone.track_ids)
            np.testing.assert_array_equal(each.assignment.track_scores, alone.track_scores)
