"""What a stream costs: bytes in the log of a fleet, CPU time of a frame, memory of the daemon. For docs/capacity.md.

    python benchmarks/stream_cost.py [--streams N] [--seconds S]

The bytes are those of real records, as the log of a fleet has them. The CPU time is that of a daemon without a journal:
streams at 30 frames/s, boxes or poses only, all from one client. Its memory is that of streams with a full history.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from itertools import islice

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from posed import Scene, draw
from processes import cpu_s, watched
from trackd.commands.bench import walk
from trackd.commands.daemon_process import running_daemon
from trackd.config import Config, StreamSettings
from trackd.engine.outcome import frame_record
from trackd.engine.stream_state import SNAPSHOT_FRAMES, StreamState
from trackd.fleet.batch import decode_batch, encode_batch
from trackd.models.motion.scorer import MotionScorer
from trackd.store.checksums import NO_LINK
from trackd.store.records import FrameRecord, OpenRecord
from trackd.tracking.instances import Instances
from trackd_client import Client, Detections, Skeleton
from trackd_client.protocol import Frame

INSTANCES, NODES = 10, 13
SHAPE = (720, 1280)
FPS = 30.0
FRAMES = 2 * SNAPSHOT_FRAMES
SKELETON = Skeleton(tuple(f"node{number}" for number in range(NODES)))
GATHERED = 8  # frames of an append of several


@dataclass(frozen=True, slots=True)
class LogCost:
    """Of a stream's records."""

    frame_bytes: float  # of a frame that is appended alone
    gathered_bytes: float  # of a frame, with `GATHERED` in an append
    snapshot_bytes: int  # of one, which every `SNAPSHOT_FRAMES` frames has
    encode_us: float  # of a frame, for the log
    decode_us: float  # of a frame that a takeover reads
    replay_us: float  # of a frame that a takeover tracks again


@dataclass(frozen=True, slots=True)
class DaemonCost:
    """Of a stream in a daemon."""

    frame_us: float  # CPU time of a frame at 30 frames/s, all threads
    late: int  # frames that the client sent late: the machine was busy
    memory_bytes: float  # with a full history


def boxes() -> list[Detections]:
    return [Detections(boxes=each) for each in islice(walk(INSTANCES, SHAPE[1], SHAPE[0]), FRAMES)]


def poses() -> list[Detections]:
    frames = draw(Scene(animals=INSTANCES, nodes=NODES), FRAMES, 0)
    return [Detections(keypoints=frame.poses.astype(np.float32)) for frame in frames]


def log_cost(frames: list[Detections]) -> LogCost:
    """Track frames, store them as messages of a log, and read these back."""
    skeleton = None if frames[0].keypoints is None else SKELETON

    def new_state() -> StreamState:
        config = Config()
        settings = StreamSettings.of(config)
        return StreamState("camera-1", 1, 0, settings, skeleton, SHAPE, lambda _: MotionScorer(), config.limits)

    state = new_state()
    records, snapshots = [], []
    for seq, detections in enumerate(frames):
        frame = Frame("camera-1", seq, seq, seq * 33_000_000, detections)
        instances = Instances.of(detections, state.settings.dataset, skeleton, state.scorer.boxes_from, SHAPE)
        assignment = state.tracker.step(seq, frame.t_ns, instances, None, seq)
        record, *snapshot = state.stored(frame_record("camera-1", 1, frame, instances, None, assignment), seq)
        records.append(record)
        snapshots += snapshot
    began = time.perf_counter()
    alone = [encode_batch([record], NO_LINK, 1)[0] for record in records]
    encoded = time.perf_counter()
    read = [record for message in alone for record, _, _ in decode_batch("camera-1", message)]
    decoded = time.perf_counter()
    second = new_state()
    replayed = time.perf_counter()
    for record in read:
        assert isinstance(record, FrameRecord)
        second.replay(record)
    ended = time.perf_counter()
    together = [
        encode_batch(records[first : first + GATHERED], NO_LINK, 1)[0] for first in range(0, len(records), GATHERED)
    ]
    opening = OpenRecord("camera-1", 1, 0, {})
    stored = [len(encode_batch([opening, snapshot], NO_LINK, 1)[0]) for snapshot in snapshots]
    count = len(records)
    return LogCost(
        sum(map(len, alone)) / count,
        sum(map(len, together)) / count,
        max(stored),
        1e6 * (encoded - began) / count,
        1e6 * (decoded - encoded) / count,
        1e6 * (ended - replayed) / count,
    )


def daemon_cost(frames: list[Detections], streams: int, seconds: float) -> DaemonCost:
    """Send frames to a real daemon: at 30 frames/s for its CPU time, then without pauses until histories are full."""
    skeleton = None if frames[0].keypoints is None else SKELETON
    with (
        watched(running_daemon(["daemon.http=null"])) as (at, daemon),
        Client(at["ingest"], at["tracks"], at["control"], timeout_s=60) as client,
    ):
        with client.open_stream("first", frame_shape=SHAPE, skeleton=skeleton) as stream:
            for detections in frames[:100]:
                stream.send(None, detections)
        before = daemon.memory_info().rss
        opened = [
            client.open_stream(f"camera-{number}", frame_shape=SHAPE, skeleton=skeleton) for number in range(streams)
        ]
        count, late = int(seconds * FPS), 0
        started_s, began = cpu_s(daemon), time.monotonic()
        for number in range(count):
            # The cameras are not in step: each sends at its own time within the period of a frame.
            for place, stream in enumerate(opened):
                due = began + (number + place / streams) / FPS
                wait_s = due - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                late += wait_s < -1 / FPS
                stream.send(None, frames[number % len(frames)])
        for stream in opened:
            stream.flush()
        frame_us = 1e6 * (cpu_s(daemon) - started_s) / (count * streams)
        for number in track(range(Config().stream.history_frames), "full histories", transient=True):
            for stream in opened:
                stream.send(None, frames[number % len(frames)])
        for stream in opened:
            stream.flush()
        memory = daemon.memory_info().rss - before
        for stream in opened:
            stream.close()
    return DaemonCost(frame_us, late, memory / streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0, help="at 30 frames/s")
    options = parser.parse_args()
    table = Table("cost of a stream", box=None)
    costs = []
    for name, frames in ((f"{INSTANCES} boxes", boxes()), (f"{INSTANCES} poses of {NODES} nodes", poses())):
        table.add_column(name, justify="right")
        costs.append((log_cost(frames), daemon_cost(frames, options.streams, options.seconds)))
    rows = (
        ("bytes of a frame in the log, appended alone", [f"{log.frame_bytes:.0f}" for log, _ in costs]),
        (f"bytes of a frame in the log, {GATHERED} in an append", [f"{log.gathered_bytes:.0f}" for log, _ in costs]),
        (f"bytes of a snapshot, each {SNAPSHOT_FRAMES} frames", [str(log.snapshot_bytes) for log, _ in costs]),
        ("KiB/s to the log at 30 frames/s, with snapshots", [f"{_log_rate(log) / 1024:.1f}" for log, _ in costs]),
        ("us to encode a frame for the log", [f"{log.encode_us:.0f}" for log, _ in costs]),
        ("us to decode a frame of the log", [f"{log.decode_us:.0f}" for log, _ in costs]),
        ("us to track a frame again", [f"{log.replay_us:.0f}" for log, _ in costs]),
        (f"us of the daemon's CPU, {options.streams} streams", [f"{daemon.frame_us:.0f}" for _, daemon in costs]),
        ("frames sent late", [str(daemon.late) for _, daemon in costs]),
        ("MiB of the daemon, full history", [f"{daemon.memory_bytes / 2**20:.1f}" for _, daemon in costs]),
    )
    for row_name, values in rows:
        table.add_row(row_name, *values)
    Console().print(table)


def _log_rate(log: LogCost) -> float:
    """Return bytes/s of a stream at 30 frames/s, each frame appended alone."""
    return FPS * (log.frame_bytes + log.snapshot_bytes / SNAPSHOT_FRAMES)


if __name__ == "__main__":
    main()
