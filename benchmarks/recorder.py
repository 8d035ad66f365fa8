"""What a recording that a client has started costs the stream that is recorded: a closed loop with and without it.

    python benchmarks/recorder.py [--rounds R] [--seconds S]

The loop sends the next frame when it has the ids of the last one, so it publishes as many messages as the daemon can. A
round measures without a recording and with one, in turn and in changing order, on one daemon; a ratio is of one round,
and the table has medians over the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice

import numpy as np
import psutil

from bare_client import INSTANCES
from processes import cpu_s, watched
from trackd.commands.bench import made_detections
from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Stream

Figures = tuple[float, float, float, float]  # p50 and p99 of a round trip in ms, frames/s, daemon CPU a frame in ms


def loop(stream: Stream, daemon: psutil.Process, seconds: float) -> Figures:
    """Measure round trips for a time."""
    detections = made_detections(INSTANCES, 1280, 1024)
    for each in islice(detections, 50):
        stream.track(None, each)
    trips, before, began = [], cpu_s(daemon), time.perf_counter()
    while time.perf_counter() - began < seconds:
        sent = time.perf_counter()
        stream.track(None, next(detections))
        trips.append(time.perf_counter() - sent)
    used, took = cpu_s(daemon) - before, time.perf_counter() - began
    p50, p99 = np.percentile(1e3 * np.array(trips), [50, 99])
    return p50, p99, len(trips) / took, 1e3 * used / len(trips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    found: dict[bool, list[Figures]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder, watched(running_daemon([f"recording.dir={folder}"])) as (at, daemon):
        addresses = [at[name] for name in ("ingest", "tracks", "control")]
        with Client(*addresses, timeout_s=60) as client, client.open_stream("loop", reply="tracks") as stream:
            for number in range(options.rounds):
                for recorded in sorted(found, reverse=bool(number % 2)):
                    if recorded:
                        client.start_recording("loop")
                    found[recorded].append(loop(stream, daemon, options.seconds))
                    if recorded and (missing := client.stop_recording("loop").missing):
                        raise RuntimeError(f"{missing} settlements were not recorded")
    print(f"{INSTANCES} instances; medians of {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'recorded':>9} {'p50 ms':>8} {'p99 ms':>8} {'frames/s':>9} {'CPU ms a frame':>15}")
    for recorded, values in found.items():
        p50, p99, frames, used = np.median(values, axis=0)
        print(f"{'yes' if recorded else 'no':>9} {p50:8.3f} {p99:8.3f} {frames:9.0f} {used:15.3f}")
    ratio = np.median([b[0] / a[0] for a, b in zip(found[False], found[True], strict=True)]) - 1
    print(f"the median round trip is {ratio:+.1%} with a recording")


if __name__ == "__main__":
    main()
