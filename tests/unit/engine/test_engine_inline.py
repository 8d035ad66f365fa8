"""Short steps are done by the thread that received their frames, longer ones by the engine's own."""

from __future__ import annotations

import threading
import time

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
    """Stands for a checkpoint's: its steps are not light."""

    is_light = False


class Bench:
    """An engine, one stream, and what was handed on by which thread."""

    def __init__(self, scorer: type[MotionScorer] = MotionScorer, has_room: bool = True) -> None:
        self.inbox = Inbox(10**9)
        self.outcomes: list[tuple[Outcome, str]] = []
        self.batches: list[int] = []
        self.engine = Engine(self.inbox, self._deliver, has_room=lambda: has_room)
        self.queue = StreamQueue("cam", 32)
        settings = StreamSettings.of(Config())
        state = StreamState("cam", 1, 0, settings, None, None, lambda _: scorer(use_vis_feats=False), LimitsConfig())
        self.inbox.add(self.queue)
        self.engine.open(self.queue, state)
        self.seq = 0

    def _deliver(self, outcomes: list[Outcome]) -> None:
        self.batches.append(len(outcomes))
        self.outcomes.extend((outcome, threading.current_thread().name) for outcome in outcomes)

    def frame(self, n: int = 2, image: EncodedImage | None = None) -> None:
        corners = np.random.default_rng(self.seq).uniform(0, 100, (n, 2))
        boxes = np.concatenate([corners, corners + 10], axis=1).astype(np.float32)
        frame = Frame("cam", self.seq, self.seq, self.seq * 10**7, Detections(boxes=boxes), image)
        self.inbox.put(self.queue, QueuedFrame(frame, time.monotonic_ns(), 100))
        self.seq += 1

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.engine.run, name="engine", daemon=True)
        thread.start()
        return thread

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.outcomes) < count and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(self.outcomes) == count


def test_a_short_step_is_done_by_who_asks() -> None:
    bench = Bench()
    bench.frame()
    assert bench.engine.step_inline()
    ((outcome, thread),) = bench.outcomes
    assert isinstance(outcome, Settlement)
    assert outcome.status is Status.TRACKED
    assert thread == threading.current_thread().name
    assert bench.inbox.idle


def test_what_waits_already_is_handed_on_together() -> None:
    bench = Bench()
    bench.frame()
    bench.engine.step_inline()  # a first one pays for what the others share
    for _ in range(8):
        bench.frame()
    while bench.engine.step_inline():
        pass
    assert sum(bench.batches) == 9
    assert len(bench.batches) < 9, "a commit and a turn of the sockets for each would be most of what a frame costs"
    settled = [outcome.head.seq for outcome, _ in bench.outcomes if isinstance(outcome, Settlement)]
    assert settled == list(range(9))
    assert bench.inbox.idle


def test_what_waits_behind_a_command_is_not_handed_on_before_it() -> None:
    bench = Bench()
    bench.frame()
    bench.inbox.command(bench.queue, Command(0, lambda: 1, lambda result, error: None))
    bench.frame()
    assert bench.engine.step_inline()
    assert bench.batches == [1]
    assert not bench.engine.step_inline(), "the command is the engine thread's"


def test_a_crowd_is_handed_on_before_the_next_one_is_looked_at() -> None:
    bench = Bench()
    for _ in range(3):
        bench.frame(n=600)
    while bench.engine.step_inline():
        pass
    assert bench.batches == [1, 1, 1], "others would wait for more than one step"


def test_a_frame_that_is_only_to_be_skipped_is_short() -> None:
    bench = Bench()
    bench.inbox.put(bench.queue, Skip(FrameHead("cam", 0, 0, 0), Status.DROPPED, "overload", 0))
    assert bench.engine.step_inline()


def test_where_nothing_waits_nothing_is_done() -> None:
    assert not Bench().engine.step_inline()


@pytest.mark.parametrize("why", ["scorer", "instances", "image", "command", "journal"])
def test_what_may_take_long_is_left_to_the_engines_thread(why: str) -> None:
    bench = Bench(SlowScorer if why == "scorer" else MotionScorer, has_room=why != "journal")
    if why == "command":
        bench.inbox.command(bench.queue, Command(-1, lambda: 1, lambda result, error: None))
    else:
        bench.frame(2000 if why == "instances" else 2, EncodedImage("png", b"") if why == "image" else None)
    assert not bench.engine.step_inline()
    assert bench.inbox.ready
    thread = bench.start()
    assert not bench.outcomes, "the engine's thread was not called yet"
    bench.inbox.wake()
    bench.wait_for(1)
    assert bench.outcomes[0][1] == "engine"
    bench.inbox.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_the_engines_thread_goes_on_with_long_steps_and_leaves_the_short_ones() -> None:
    bench = Bench()
    for n in (2000, 2000, 2, 2):
        bench.frame(n)
    thread = bench.start()
    bench.inbox.wake()
    bench.wait_for(2)
    time.sleep(0.05)
    assert len(bench.outcomes) == 2
    while bench.engine.step_inline():
        pass
    assert [name for _, name in bench.outcomes] == ["engine", "engine", *[threading.current_thread().name] * 2]
    assert [outcome.head.seq for outcome, _ in bench.outcomes if isinstance(outcome, Settlement)] == [0, 1, 2, 3]
    bench.inbox.stop()
    thread.join(10)


def test_while_one_thread_is_at_a_step_no_other_is() -> None:
    bench = Bench()
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(10)

    bench.inbox.command(bench.queue, Command(-1, hold, lambda result, error: None))
    thread = bench.start()
    bench.inbox.wake()
    assert begun.wait(10)
    bench.frame()
    assert not bench.engine.step_inline()
    go_on.set()
    bench.wait_for(1)
    deadline = time.monotonic() + 10
    while not bench.engine.step_inline() and len(bench.outcomes) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    bench.wait_for(2)
    bench.inbox.stop()
    thread.join(10)


def test_what_is_left_when_the_inbox_is_stopped_is_still_done() -> None:
    bench = Bench()
    for _ in range(3):
        bench.frame()
    bench.inbox.stop()
    bench.start().join(10)
    assert len(bench.outcomes) == 3
