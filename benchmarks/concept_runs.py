"""The runs behind the pictures of docs/concepts.md: real trackers and daemons, and what they did, as plain values."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from place_scorer import PlaceScorer
from restarted_daemon import RestartedDaemon
from trackd.commands.daemon_process import running_daemon
from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.association import track_scores, usable_logits
from trackd.tracking.instances import Instances
from trackd.tracking.rules.rules import active_rules
from trackd.tracking.tracker import Tracker
from trackd.tracking.weighing import weigh_table
from trackd_client import Client, Detections
from trackd_client.recordings.config import LiveDataset

FRAME_NS = 33_000_000


def instances_of(boxes: np.ndarray) -> Instances:
    return Instances.of(Detections(boxes=np.asarray(boxes, np.float32).reshape(-1, 4)), LiveDataset(), None)


def box(x: float, y: float, w: float = 24, h: float = 16) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


# --- the window and the gap ---


@dataclass(frozen=True)
class WindowRun:
    """Three tracks over time. Frames are indices from 0."""

    window_size: int
    max_gap: int
    frames: int
    seen: dict[int, list[int]]  # by track id: the frames in which it was observed
    held: dict[int, list[int]]  # of these, the ones that the window holds after the last frame
    lost: dict[int, list[int]]  # the frames that state that it is lost
    found: dict[int, list[int]]
    ended: dict[int, int]  # the frame that states its end


def window_run() -> WindowRun:
    """One animal is always detected, one is missed for five frames, one leaves for good."""
    config = TrackerConfig(window_size=8, max_gap=9)
    tracker, frames = Tracker(config, MotionScorer()), 26
    seen: dict[int, list[int]] = {}
    lost: dict[int, list[int]] = {}
    found: dict[int, list[int]] = {}
    ended: dict[int, int] = {}
    for frame in range(frames):
        boxes = [box(40 + 2 * frame, 40)]
        if not 9 <= frame < 14:
            boxes.append(box(200 - 2 * frame, 120))
        if frame < 12:
            boxes.append(box(40 + frame, 220))
        result = tracker.step(frame, frame * FRAME_NS, instances_of(np.array(boxes)), None, frame)
        for track in result.track_ids.tolist():
            seen.setdefault(track, []).append(frame)
        for track in result.lost_tracks:
            lost.setdefault(track, []).append(frame)
        for track in result.found_tracks:
            found.setdefault(track, []).append(frame)
        for track in result.ended_tracks:
            ended[track] = frame
    window = tracker.window
    held = {
        int(window.ids[slot]): sorted(index for index in window.frame_index[slot].tolist() if index >= 0)
        for slot in window.live
    }
    return WindowRun(config.window_size, config.max_gap or 0, frames, seen, held, lost, found, ended)


# --- a crossing, and the parameters of the association ---

CROSSING_SETTINGS: dict[str, dict[str, Any]] = {
    "all off": {},
    "decay_time: 0.3": {"decay_time": 0.3},
    "iou: mult": {"iou": "mult"},
    "max_center_dist: 10, semantics: 2026": {"max_center_dist": 10, "semantics": "2026"},
}


@dataclass(frozen=True)
class Crossing:
    """Two animals pass each other, under one configuration."""

    setting: str
    xs: list[list[float]]  # (frames, 2) of the two animals
    ids: list[list[int]]  # (frames, 2) the id of each animal
    shown: int  # the frame after the contact, whose scores are below
    scores: list[list[float]]  # (2, 2) S of each animal with each track, after the rules
    swapped: bool  # whether the animals have exchanged their ids at the end


def crossings() -> list[Crossing]:
    """The same frames under each setting; the scorer compares places only, with every observation in the window."""
    steps, speed, shown = 21, 8.0, 11
    xs = [[100 + speed * (step - 10), 100 - speed * (step - 10)] for step in range(steps)]
    runs = []
    for setting, keys in CROSSING_SETTINGS.items():
        config = TrackerConfig(**keys)
        tracker, ids, at_contact = Tracker(config, PlaceScorer()), [], np.zeros((2, 2))
        for step, (left, right) in enumerate(xs):
            instances = instances_of(np.array([box(left, 50), box(right, 60)]))
            query = tracker.begin(step, step * FRAME_NS, instances, None, step)
            scores = tracker.scorer.score(query) if len(query.live_slots) else None
            if step == shown and scores is not None:
                logits, _ = usable_logits(scores.logits)
                table = track_scores(logits, scores, query.live_slots, config.decay_time)
                at_contact, _ = weigh_table(table.copy(), query, query.live_slots, config, active_rules(config))
            ids.append(tracker.finish(query, scores).track_ids.tolist())
        runs.append(Crossing(setting, xs, ids, shown, np.asarray(at_contact).tolist(), ids[0] != ids[-1]))
    return runs


# --- ids through a contact, and after an absence ---


@dataclass(frozen=True)
class Passage:
    """Two animals of the `motion` scorer over time; None where an animal has no detection of its own."""

    setting: str
    xs: list[list[float]]  # (frames, 2) where the animals are
    ids: list[list[int | None]]  # (frames, 2)
    scores: list[list[float | None]]  # (frames, 2) track_scores; None also for a new track
    hidden: tuple[int, int]  # the frames in which an animal is not detected: first, and after the last


def passage(setting: str, keys: dict[str, Any], xs: np.ndarray, ys: np.ndarray, visible: np.ndarray) -> Passage:
    """Track two animals at `xs`, `ys` (frames, 2), each where `visible` (frames, 2)."""
    tracker = Tracker(TrackerConfig(**keys), MotionScorer())
    ids: list[list[int | None]] = []
    scores: list[list[float | None]] = []
    noise = np.random.default_rng(3).normal(0, 0.6, (*xs.shape, 2))
    for step in range(len(xs)):
        animals = np.flatnonzero(visible[step])
        boxes = [box(xs[step, k] + noise[step, k, 0], ys[step, k] + noise[step, k, 1]) for k in animals]
        result = tracker.step(step, step * FRAME_NS, instances_of(np.array(boxes)), None, step)
        ids.append([None, None])
        scores.append([None, None])
        for row, k in enumerate(animals):
            track, score = int(result.track_ids[row]), float(result.track_scores[row])
            ids[-1][k] = track if track >= 0 else None
            scores[-1][k] = score if np.isfinite(score) else None
    gone = np.flatnonzero(~visible.all(axis=1))
    return Passage(setting, xs.tolist(), ids, scores, (int(gone[0]), int(gone[-1]) + 1))


def contact() -> Passage:
    """Two animals pass close by each other; in the contact the detector finds one of them for some frames."""
    frames = 60
    step = np.arange(frames)
    xs = np.stack([60 + 3.0 * step, 237 - 3.0 * step], axis=1)
    ys = np.stack([np.full(frames, 100.0), np.full(frames, 110.0)], axis=1)
    visible = np.ones((frames, 2), bool)
    visible[27:33, 1] = False
    return passage("motion, defaults", {}, xs, ys, visible)


ABSENCE_SETTINGS: dict[str, dict[str, Any]] = {
    "max_gap: 20": {"max_gap": 20},
    "max_tracks: 2": {"max_tracks": 2},
    "neither": {},
}


def absences() -> list[Passage]:
    """An animal hides for 40 frames and comes out at the other end of its shelter."""
    frames = 90
    step = np.arange(frames)
    first = 40 + 15 * np.sin(step / 7)
    second = np.where(step < 30, 120 + step, 260.0 - (step - 70))
    xs, ys = np.stack([first, second], axis=1), np.full((frames, 2), 100.0)
    visible = np.ones((frames, 2), bool)
    visible[30:70, 1] = False
    return [passage(setting, keys, xs, ys, visible) for setting, keys in ABSENCE_SETTINGS.items()]


# --- the way of a frame, with measured times ---


@dataclass(frozen=True)
class FrameTimes:
    """Medians in µs over the frames of a closed loop with a journal."""

    frames: int
    instances: int
    stages_us: dict[str, float]  # of the daemon, in order of time; they add up to its total
    total_us: float
    round_trip_us: float  # as the client saw it


def boxes_of(step: int, n: int = 10) -> np.ndarray:
    return np.array([box(100 + 60 * k + 8 * np.sin(step / 9 + k), 200 + 5 * k, 30, 30) for k in range(n)], np.float32)


def frame_times(frames: int, instances: int = 10) -> FrameTimes:
    trips: list[float] = []
    rows: list[list[int]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_daemon([f"daemon.state_dir={folder}"]) as at,
        client_of(at) as client,
        client.open_stream("camera", reply="tracks") as stream,
    ):
        for step in range(frames + 30):
            before = time.perf_counter()
            timing = stream.track(None, Detections(boxes=boxes_of(step, instances))).timing
            if step >= 30:
                trips.append((time.perf_counter() - before) * 1e6)
                stages = [timing.queue, timing.encode, timing.associate, timing.journal]
                rows.append([*stages, timing.total - sum(stages), timing.total])
            time.sleep(0.002)
    *stages_us, total_us = np.median(np.array(rows), axis=0).tolist()
    names = ("queue", "encode", "associate", "journal", "publish")
    return FrameTimes(frames, instances, dict(zip(names, stages_us, strict=True)), total_us, statistics.median(trips))


def client_of(at: dict[str, str]) -> Client:
    return Client(at["ingest"], at["tracks"], at["control"], timeout_s=60)


# --- a kill and a restart ---


@dataclass(frozen=True)
class Restart:
    """A stream over a `kill -9` of its daemon. Times are s since the first frame."""

    sent_s: list[float]  # by seq
    received_s: list[float]  # by seq, the first receipt of its ids
    ids: list[list[int]]  # by seq
    expected: list[list[int]]  # the same frames without a kill
    killed_s: float
    ready_s: float


def restart(frames: int, rate: float = 30.0) -> Restart:
    """Send frames at a rate, kill the daemon in the middle, and start another one with the same state folder."""
    sent, received, ids = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        RestartedDaemon(Path(folder)) as daemon,
        client_of(daemon.addresses) as client,
        client.open_stream("camera", reply="tracks") as stream,
    ):
        start = time.monotonic()
        for step in range(frames):
            time.sleep(max(0.0, start + step / rate - time.monotonic()))
            if step == frames // 2:
                daemon.kill_and_start_again()
            sent.append(time.monotonic() - start)
            tracks = stream.track(None, Detections(boxes=moving(step)), frame_index=step, t_ns=step * FRAME_NS)
            received.append(time.monotonic() - start)
            ids.append(np.asarray(tracks.track_ids).tolist())
        killed, ready = daemon.killed_s - start, daemon.ready_s - start
    return Restart(sent, received, ids, list(undisturbed(frames)), killed, ready)


def moving(step: int) -> np.ndarray:
    """Three animals in another order in each frame, so that a row is no identity."""
    boxes = boxes_of(step, 3)
    return boxes[np.random.default_rng(step).permutation(3)]


def undisturbed(frames: int) -> Iterator[list[int]]:
    tracker = Tracker(TrackerConfig(), MotionScorer())
    for step in range(frames):
        result = tracker.step(step, step * FRAME_NS, instances_of(moving(step)), None, step)
        yield result.track_ids.tolist()
