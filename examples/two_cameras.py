"""Two cameras of different rates, one daemon, and one subscriber that merges their tracks by capture time."""

from __future__ import annotations

import argparse
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from program import Options, connect, run
from trackd_client import Detections, Stream, Tracks

RATES = {"left": 30.0, "right": 20.0}  # frames per second

options = Options(__doc__)
options.add_argument("--seconds", type=float, default=3.0, help="how long the cameras run")


def camera(stream: Stream, fps: float, seconds: float) -> None:
    """Send boxes of two animals, one that goes to the right and one that goes to the left, and close the stream."""
    started = time.monotonic()
    for frame_index in range(round(fps * seconds)):
        time.sleep(max(0.0, started + frame_index / fps - time.monotonic()))
        x = 60 * frame_index / fps  # 60 pixels per second
        boxes = np.array([[20 + x, 100, 60 + x, 140], [560 - x, 300, 600 - x, 340]], np.float32)
        stream.send(None, Detections(boxes=boxes))
    stream.close()


def by_capture_time(settlements: Iterable[Tracks]) -> Iterator[Tracks]:
    """Yield the settlements of all cameras in the order of capture; each waits until the other cameras are as far."""
    waiting: dict[str, deque[Tracks]] = {name: deque() for name in RATES}
    for tracks in settlements:
        waiting[tracks.stream].append(tracks)
        while all(waiting.values()):
            yield min(waiting.values(), key=lambda queue: queue[0].t_ns).popleft()
    yield from sorted((tracks for queue in waiting.values() for tracks in queue), key=lambda tracks: tracks.t_ns)


def main(given: argparse.Namespace) -> None:
    with connect(given) as client:
        streams = {name: client.open_stream(name, frame_shape=(480, 640)) for name in RATES}
        settlements = client.tracks(*streams, from_seq=0, until_closed=True)
        cameras = [
            threading.Thread(target=camera, args=(stream, RATES[name], given.seconds), daemon=True)
            for name, stream in streams.items()
        ]
        for each in cameras:
            each.start()
        first_ns, counts = 0, dict.fromkeys(RATES, 0)
        for tracks in by_capture_time(settlements):
            first_ns = first_ns or tracks.t_ns
            counts[tracks.stream] += 1
            print(
                f"{(tracks.t_ns - first_ns) / 1e9:.3f} s {tracks.stream} {tracks.frame_index}: ids {tracks.track_ids}"
            )
        for each in cameras:
            each.join()  # their streams are closed before the client
        print("merged", ", ".join(f"{count} frames of {name}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main, options)
