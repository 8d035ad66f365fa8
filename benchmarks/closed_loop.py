"""The closed loop over tcp loopback, boxes only: `Stream.track` and the lower bounds of such a loop.

    python benchmarks/closed_loop.py [--rounds R] [--seconds S]

It measures four things in turn, so that other load slows all of them: the step alone, the bare echo of the same bytes,
the bare loop of bare_loop.py, trackd. A ratio is of one round; the table has medians over the rounds.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict

import numpy as np

from bare_client import INSTANCES, frame_bytes
from bare_loop import running_bare
from figures import Figure
from step import step_times
from targets import Target
from trackd.commands.bench import Load, made_detections, measure
from trackd.commands.daemon_process import running_daemon
from trackd_client.protocol import STAGES

P99_MS = 1.5
BARE_P99_MS = 0.39  # of the bare loop on the machine of the targets; $TRACKD_SHARED/measured.md
STEPS = 512


def rounds(count: int, seconds: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return p50 and p99 in ms of each (rounds, 2), and the median time of trackd's stages, ms."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    stages: list[tuple[int, ...]] = []
    made = made_detections(INSTANCES, 1280, 720)
    frames = [next(made) for _ in range(STEPS)]
    load = Load(fps=math.inf, instances=INSTANCES, seconds=seconds, closed_loop=True)
    with (
        running_daemon(["daemon.http=null"]) as at,
        running_bare() as bare,
        running_bare("echo") as echoing,
    ):
        for _ in range(count):
            found["step alone"].append(step_times(frames)[20:])
            found["bare echo"].append(echoing.echo(frame_bytes(), seconds / 2))
            found["bare loop"].append(bare.closed_loop(seconds))
            (measured,) = measure(load, at)
            found["trackd"].append(1e3 * np.array(measured.round_trips_s[10:]))
            stages += measured.stages_us
    figures = {name: np.array([np.percentile(each, [50, 99]) for each in times]) for name, times in found.items()}
    return figures, np.median(np.array(stages), axis=0) / 1e3


def targets(figures: dict[str, np.ndarray]) -> list[Target]:
    step, echo, bare, ours = (figures[name] for name in ("step alone", "bare echo", "bare loop", "trackd"))
    bound = step[:, 0] + 3 * echo[:, 0]
    p50, p99 = np.median(ours, axis=0)
    share, tail = np.median(ours[:, 0] / bound), np.median(ours[:, 1] / bare[:, 1])
    most = P99_MS / BARE_P99_MS
    return [
        Target(
            "closed loop p50, N = 10",
            f"≤ step + 3 echoes, {np.median(bound):.2f} ms in this run",
            f"{p50:.2f} ms, {share:.2f}× of it",
            bool(share <= 1),
        ),
        Target("closed loop p99, N = 10", f"≤ {P99_MS} ms on an idle machine", f"{p99:.2f} ms", bool(p99 <= P99_MS)),
        Target(
            "closed loop p99, relative to the bare loop",
            f"≤ {most:.1f}× ({P99_MS} ms at {BARE_P99_MS} ms of the bare loop)",
            f"{tail:.1f}×",
            bool(tail <= most),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    figures, stages = rounds(options.rounds, options.seconds)
    print(
        f"{INSTANCES} instances, boxes only, tcp loopback; medians of {options.rounds} rounds of {options.seconds:g} s"
    )
    print(f"{'ms':20} {'p50':>8} {'p99':>8}")
    for name, values in figures.items():
        p50, p99 = np.median(values, axis=0)
        print(f"{name:20} {p50:8.3f} {p99:8.3f}")
    ratio = np.median(figures["trackd"] / figures["bare loop"], axis=0)
    print(f"{'trackd / bare loop':20} {ratio[0]:8.2f} {ratio[1]:8.2f}")
    print("trackd's stages, p50: " + ", ".join(f"{name} {ms:.3f}" for name, ms in zip(STAGES, stages, strict=True)))
    ours, bare = figures["trackd"], figures["bare loop"]
    print(Figure.of("closed loop p50", ours[:, 0], "ms"))
    print(Figure.of("closed loop p50, relative to the bare loop", ours[:, 0] / bare[:, 0]))
    print(Figure.of("closed loop p99, relative to the bare loop", ours[:, 1] / bare[:, 1]))
    print()
    for target in targets(figures):
        print(target)


if __name__ == "__main__":
    main()
