"""The thread that received the frames runs short steps inline; the engine and lane threads run the longer ones."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from trackd.config import Config, LimitsConfig, StreamSettings
from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outcome import Outcome, Settlement
from trackd.engine.queue import Command, QueuedFrame, Skip, StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.models.motion.scorer import MotionScorer
from trackd_client.detections import Detections
from trackd_client.protocol import EncodedImage, Frame, FrameHead, Status


class SlowScorer(MotionScorer):
    """A stand-in for a checkpoint's scorer: its steps are not light."""

    is_light = False


class CountedInbox(Inbox):
    """An inbox that counts the engine thread's waits, which end only when the thread is called or stopped."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.waits = threading.Semaphore(0)

    def wait(self, timeout_s: float) -> bool:
        self.waits.release()
        return super().wait(60.0)


class Bench:
    """An engine with one stream and a simulated clock, and its outcomes with the thread that delivered them.

    Args:
        scorer: of the stream.
        has_room: whether the journal accepts outcomes without a wait.
        tick_ns: added to the clock at each reading.
        use_vis_feats: the scorer needs images.
    """

    def __init__(
        self,
        scorer: type[MotionScorer] = MotionScorer,
        has_room: bool = True,
        tick_ns: int = 0,
        use_vis_feats: bool = False,
    ) -> None:
        self.inbox = CountedInbox()
        self.tick_ns = tick_ns
        self.now_ns = 0
        self._delivered = threading.Condition()
        self.outcomes: list[tuple[Outcome, str]] = []
        self.batches: list[int] = []
        self.left_short = threading.Event()
        self.engine = Engine(
            self.inbox, self._deliver, has_room=lambda: has_room, wake_inline=self.left_short.set, clock=self._clock
        )
        self.queue = StreamQueue("cam", 32)
        settings = StreamSettings.of(Config())
        state = StreamState("cam", 1, 0, settings, None, None, lambda _: scorer(use_vis_feats), LimitsConfig())
        self.inbox.add(self.queue)
        self.engine.open(self.queue, state)
        self.seq = 0

    def _clock(self) -> int:
        self.now_ns += self.tick_ns
        return self.now_ns

    def _deliver(self, outcomes: list[Outcome]) -> None:
        with self._delivered:
            self.batches.append(len(outcomes))
            self.outcomes.extend((outcome, threading.current_thread().name) for outcome in outcomes)
            self._delivered.notify_all()

    def frame(self, n: int = 2, image: EncodedImage | None = None) -> None:
        corners = np.random.default_rng(self.seq).uniform(0, 100, (n, 2))
        boxes = np.concatenate([corners, corners + 10], axis=1).astype(np.float32)
        frame = Frame("cam", self.seq, self.seq, self.seq * 10**7, Detections(boxes=boxes), image)
        self.inbox.put(self.queue, QueuedFrame(frame, self.now_ns, 100))
        self.seq += 1

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.engine.run, name="engine", daemon=True)
        thread.start()
        threading.Thread(target=self.engine.run_lane, name="lane", daemon=True).start()
        return thread

    def wait_for(self, count: int) -> None:
        with self._delivered:
            assert self._delivered.wait_for(lambda: len(self.outcomes) >= count, 10)
            assert len(self.outcomes) == count

    def wait_until_idle(self) -> None:
        """Wait until the engine thread has done its work since the start and waits again."""
        for _ in range(2):
            assert self.inbox.waits.acquire(timeout=10)


def test_a_short_step_runs_on_the_calling_thread() -> None:
    bench = Bench()
    bench.frame()
    assert bench.engine.step_inline()
    ((outcome, thread),) = bench.outcomes
    assert isinstance(outcome, Settlement)
    assert outcome.status is Status.TRACKED
    assert thread == threading.current_thread().name
    assert bench.inbox.idle


def test_frames_that_wait_already_are_delivered_together() -> None:
    bench = Bench()
    for _ in range(9):
        bench.frame()
    while bench.engine.step_inline():
        pass
    assert bench.batches == [9], "most of a frame's cost would be its own commit and its own poll of the sockets"
    settled = [outcome.head.seq for outcome, _ in bench.outcomes if isinstance(outcome, Settlement)]
    assert settled == list(range(9))
    assert bench.inbox.idle


def test_outcomes_are_delivered_once_their_steps_have_taken_a_millisecond() -> None:
    bench = Bench(tick_ns=1_000_000)
    for _ in range(6):
        bench.frame()
    while bench.engine.step_inline():
        pass
    assert bench.batches == [2, 2, 2]


def test_a_frame_behind_a_command_is_not_stepped_before_it() -> None:
    bench = Bench()
    bench.frame()
    bench.inbox.command(bench.queue, Command(0, lambda: 1, lambda result, error: None))
    bench.frame()
    assert bench.engine.step_inline()
    assert bench.batches == [1]
    assert not bench.engine.step_inline(), "only the engine thread runs commands"


def test_a_frame_with_many_instances_is_delivered_before_the_next_one_is_stepped() -> None:
    bench = Bench()
    bench.queue.cost.measured(600, 1200 * 600, 2e5, 3e6)  # without a measured step it would not run inline
    for _ in range(3):
        bench.frame(n=600)
    while bench.engine.step_inline():
        pass
    assert bench.batches == [1, 1, 1], "other streams would wait for more than one step"


def test_a_skip_is_a_short_step() -> None:
    bench = Bench()
    bench.inbox.put(bench.queue, Skip(FrameHead("cam", 0, 0, 0), Status.DROPPED, "overload", 0))
    assert bench.engine.step_inline()


def test_without_work_there_is_no_step() -> None:
    assert not Bench().engine.step_inline()


@pytest.mark.parametrize("why", ["scorer", "instances", "image", "command", "journal"])
def test_a_step_that_may_take_long_is_left_to_the_engine_thread(why: str) -> None:
    bench = Bench(
        SlowScorer if why == "scorer" else MotionScorer, has_room=why != "journal", use_vis_feats=why == "image"
    )
    if why == "command":
        bench.inbox.command(bench.queue, Command(-1, lambda: 1, lambda result, error: None))
    else:
        bench.frame(2000 if why == "instances" else 2, EncodedImage("png", b"") if why == "image" else None)
    assert not bench.engine.step_inline()
    assert bench.inbox.ready
    thread = bench.start()
    assert not bench.outcomes, "the engine thread was not called yet"
    bench.inbox.wake()
    bench.wait_for(1)
    assert bench.outcomes[0][1] == ("lane" if why == "instances" else "engine")
    bench.inbox.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_lane_thread_runs_long_steps_and_leaves_the_short_ones() -> None:
    bench = Bench(tick_ns=20_000_000)
    for n in (2000, 2000, 2, 2):
        bench.frame(n)
    thread = bench.start()
    bench.inbox.wake()
    assert bench.left_short.wait(10)
    assert len(bench.outcomes) == 2
    while bench.engine.step_inline():
        pass
    assert [name for _, name in bench.outcomes] == ["lane", "lane", *[threading.current_thread().name] * 2]
    assert [outcome.head.seq for outcome, _ in bench.outcomes if isinstance(outcome, Settlement)] == [0, 1, 2, 3]
    bench.inbox.stop()
    thread.join(10)


def test_only_one_thread_steps_a_stream_at_a_time() -> None:
    bench = Bench()
    started, released = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        released.wait(10)

    bench.inbox.command(bench.queue, Command(-1, hold, lambda result, error: None))
    thread = bench.start()
    bench.inbox.wake()
    assert started.wait(10)
    bench.frame()
    assert not bench.engine.step_inline()
    released.set()
    bench.wait_until_idle()
    assert bench.engine.step_inline()
    assert len(bench.outcomes) == 2
    bench.inbox.stop()
    thread.join(10)


def test_frames_that_wait_when_the_inbox_is_stopped_are_still_stepped() -> None:
    bench = Bench()
    for _ in range(3):
        bench.frame()
    bench.inbox.stop()
    bench.start().join(10)
    assert len(bench.outcomes) == 3
