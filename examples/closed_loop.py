"""A closed loop: the ids of each frame switch a light before the next frame is taken.

The light is on while one animal is in the left part of the tank.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from program import Options, connect, run
from recorded import Recorded
from trackd_client import Detections

options = Options(__doc__)
options.add_argument("--recording", default="demo/demo.slp", help="stands in for the camera and the pose estimator")
options.add_argument("--frames", type=int, default=300, help="how many to track")
options.add_argument("--animals", type=int, default=5, help="in the tank")
options.add_argument("--track", type=int, default=0, help="the id that the light follows")
options.add_argument("--zone-x", type=float, default=320, help="the right edge of the zone, pixels")


def light(is_on: bool) -> None:
    """Switch the light: here goes the output of your rig."""


def main(given: argparse.Namespace) -> None:
    camera = Recorded(given.recording)
    is_on, ages_ms = False, []
    with (
        connect(given) as client,
        client.open_stream(
            "closed-loop", reply="tracks", skeleton=camera.skeleton, config={"max_tracks": given.animals}
        ) as stream,
    ):
        for shot in camera.shots(given.frames):
            found = Detections.from_sleap(shot.instances)
            tracks = stream.track(None, found, frame_index=shot.frame_index, t_ns=shot.t_ns)
            if tracks.track_ids is None or tracks.boxes is None:
                continue  # the frame was dropped: only with a stream.deadline_ms or a policy that drops
            for x in tracks.boxes[tracks.track_ids == given.track][:, [0, 2]].mean(axis=1):  # none while it is hidden
                if (x < given.zone_x) != is_on:
                    is_on = not is_on
                    light(is_on)
                    print(
                        f"frame {shot.frame_index}: track {given.track} at x={x:.0f}: light {'on' if is_on else 'off'}"
                    )
            ages_ms.append((time.time_ns() - shot.t_ns) / 1e6)
    p50, p99 = np.percentile(ages_ms, (50, 99))
    print(f"{len(ages_ms)} frames; from capture to decision: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    run(main, options)
