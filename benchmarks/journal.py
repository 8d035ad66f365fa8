"""The cost of the journal: closed loop and sustained rate without it, with `durability: process`, with `power`.

    python benchmarks/journal.py

Each figure is the median of interleaved rounds, so that other load slows all three.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np

from figures import Figure
from trackd.commands.bench import walk
from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Detections

FRAMES = 1500
ROUNDS = 3
MODES: dict[str, list[str]] = {
    "none": [],
    "process": ["daemon.durability=process"],
    "power": ["daemon.durability=power"],
}


def loops(client: Client, frames: list[Detections]) -> tuple[float, float, float]:
    """Return p50 and p99 of the closed loop in ms, and the rate of one stream as fast as credit allows."""
    with client.open_stream("closed", reply="tracks") as stream:
        times = []
        for detections in frames:
            started = time.perf_counter()
            stream.track(None, detections)
            times.append(time.perf_counter() - started)
    with client.open_stream("sustained") as stream:
        started = time.perf_counter()
        for detections in frames:
            stream.send(None, detections)
        stream.flush()
        rate = len(frames) / (time.perf_counter() - started)
    p50, p99 = np.percentile(np.array(times[100:]) * 1e3, [50, 99])
    return float(p50), float(p99), rate


def measure(overrides: list[str]) -> tuple[float, float, float]:
    """Return the figures of `loops` with a daemon."""
    boxes = walk(10, 1280, 720)
    frames = [Detections(boxes=next(boxes)) for _ in range(FRAMES)]
    with (
        running_daemon(["daemon.http=null", *overrides]) as at,
        Client(at["ingest"], at["tracks"], at["control"]) as client,
    ):
        return loops(client, frames)


def main() -> None:
    measured: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in MODES}
    for _ in range(ROUNDS):
        for mode, overrides in MODES.items():
            with tempfile.TemporaryDirectory() as folder:
                state = [] if mode == "none" else [f"daemon.state_dir={folder}"]
                measured[mode].append(measure([*state, *overrides]))
    base = np.median(measured["none"], axis=0)
    print(f"{'durability':12} {'p50 ms':>8} {'+ ms':>8} {'p99 ms':>8} {'frames/s':>9} {'change':>8}")
    for mode, rows in measured.items():
        p50, p99, rate = np.median(rows, axis=0)
        change = rate / base[2] - 1
        print(f"{mode:12} {p50:8.3f} {p50 - base[0]:8.3f} {p99:8.3f} {rate:9.0f} {change:8.1%}")
    without = measured["none"]
    for mode in (mode for mode in MODES if mode != "none"):
        pairs = list(zip(without, measured[mode], strict=True))
        print(Figure.of(f"journal {mode}: closed loop p50, relative", [b[0] / a[0] for a, b in pairs]))
        rates = [b[2] / a[2] for a, b in pairs]
        print(Figure.of(f"journal {mode}: rate, relative", rates, more_is_better=True))


if __name__ == "__main__":
    main()
