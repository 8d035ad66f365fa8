"""The time of one frame in the tracker with the `motion` scorer and in its peers: medians of one run, one thread.

    TRACKD_SHARED=../shared python benchmarks/step.py [N ...] [--rounds R] [--plot FILE]

The sequences are those of `$TRACKD_SHARED/peers/PEERS.md` (level `default`, seed 1, without the first 20 frames and
without images). Our step is `Instances.of` and `Tracker.step`, a peer's step is its update call. In each round our step
runs before each package of peers, and each package has a separate process. A peer's ratio is to the run of ours just
before it; the table has medians over the rounds. A peer other than ByteTrack that needs longer than `BUDGET_S` for its
frames is stopped. Fewer frames are to its advantage, since few tracks are lost by then.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from figures import Figure
from peer_process import BYTETRACK, NO_PEERS, NOT_COMPARED, PACKAGES, PeerProcess, are_installed
from targets import Target
from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

FASTER_THAN_BYTETRACK = {10: 1.5, 50: 3.0, 100: 4.0, 500: 5.0}
WARM_UP = 20
FRAMES = {500: 100}  # of a scene; else 200
BUDGET_S = 0.4
ANSWER_S = 240.0  # the first answer includes the imports
LEFT_OUT = {("motpy", 500)}  # as in bench_peers.py

Figures = dict[str, dict[int, float]]  # median ms by tracker and number of instances


def scenes(n: int, frames: int) -> list[Detections]:
    """Return the frames of PEERS.md."""
    sys.path.insert(0, str(Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve() / "peers"))
    import gen

    sequence = gen.generate(n, frames, seed=1, level="default")
    return [Detections(boxes=frame.boxes, scores=frame.scores) for frame in sequence.frames]


def step_times(frames: list[Detections]) -> np.ndarray:
    """Return the time of our step for each frame, ms, with a new tracker."""
    tracker, dataset, times = Tracker(TrackerConfig(), MotionScorer()), LiveDataset(), []
    for number, detections in enumerate(frames):
        started = time.perf_counter()
        instances = Instances.of(detections, dataset, None, "detection")
        tracker.step(number, number * 33_000_000, instances, None, number)
        times.append(1e3 * (time.perf_counter() - started))
    return np.array(times)


def steady(times: np.ndarray) -> np.ndarray:
    """Return the times without the warm-up, which is shorter for few frames, as in bench_peers.py."""
    return times[min(WARM_UP, len(times) // 4) :]


def measure(counts: list[int], rounds: int) -> tuple[Figures, Figures, dict[int, float], dict[str, str], list[Figure]]:
    """Return medians in ms, ratios to ours, our p99 in ms, why a peer is missing, and our medians as figures."""
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    ratios: dict[tuple[str, int], list[float]] = defaultdict(list)
    tails: dict[int, list[float]] = defaultdict(list)
    faults: dict[str, str] = {}
    with ExitStack() as stack:
        packages = {name: PeerProcess(name, stack) for name in PACKAGES} if are_installed() else {}
        for n in counts:
            length = FRAMES.get(n, 200)
            frames = scenes(n, length)
            for _ in range(rounds):
                for package in packages or ("none",):
                    ours = steady(step_times(frames))
                    times["trackd", n].append(float(np.median(ours)))
                    tails[n].append(float(np.percentile(ours, 99)))
                    for peer in PACKAGES.get(package, ()):
                        if peer in faults or (peer, n) in LEFT_OUT:
                            continue
                        try:
                            budget_s = 60.0 if peer == BYTETRACK else BUDGET_S
                            question = {"peer": peer, "n": n, "frames": length, "budget_s": budget_s}
                            theirs = steady(np.array(packages[package].ask(ANSWER_S, **question)["times_ms"]))
                        except RuntimeError as error:
                            faults[peer] = str(error)
                            continue
                        times[peer, n].append(float(np.median(theirs)))
                        ratios[peer, n].append(times[peer, n][-1] / times["trackd", n][-1])
    figures, relative = (_medians(values) for values in (times, ratios))
    kept = [Figure.of(f"`motion` step, N = {n}", times["trackd", n], "ms") for n in counts]
    return figures, relative, {n: float(np.median(values)) for n, values in tails.items()}, faults, kept


def _medians(values: dict[tuple[str, int], list[float]]) -> Figures:
    medians: Figures = defaultdict(dict)
    for (name, n), each in values.items():
        medians[name][n] = float(np.median(each))
    return medians


def targets(counts: list[int], ratios: Figures) -> list[Target]:
    found = []
    for n in counts:
        wanted, ratio = FASTER_THAN_BYTETRACK.get(n, 1.0), ratios.get(BYTETRACK, {}).get(n)
        found.append(
            Target(
                f"`motion` step, N = {n}, compared with ByteTrack of `trackers`",
                f"≥ {wanted:g}× as fast",
                "peers are not installed" if ratio is None else f"{ratio:.1f}×",
                None if ratio is None else ratio >= wanted,
            )
        )
    closest = min(((each[n], peer, n) for peer, each in ratios.items() for n in each), default=None)
    found.append(
        Target(
            "`motion` step compared with every peer, at every N",
            "faster",
            "peers are not installed" if closest is None else f"≥ {closest[0]:.2f}× ({closest[1]}, N = {closest[2]})",
            None if closest is None else closest[0] > 1,
        )
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=[10, 50, 100, 500])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="draw the figures to this file")
    options = parser.parse_args()
    figures, ratios, tails, faults, kept = measure(options.counts, options.rounds)
    print(f"median ms (ratio to ours), window {TrackerConfig().window_size}, {options.rounds} rounds")
    print(f"{'':22}" + "".join(f"{f'N = {n}':>17}" for n in options.counts))
    for name in sorted(figures, key=lambda name: figures[name][options.counts[0]]):
        cells = [f"{figures[name][n]:9.3f}" if n in figures[name] else f"{'–':>9}" for n in options.counts]
        times = [f"({ratios[name][n]:5.1f})" if n in ratios.get(name, {}) else "" for n in options.counts]
        print(f"{name:22}" + "".join(f"{cell}{ratio:>8}" for cell, ratio in zip(cells, times, strict=True)))
    print(f"{'trackd, p99':22}" + "".join(f"{tails[n]:9.3f}{'':8}" for n in options.counts))
    if len(figures) == 1:
        print(NO_PEERS)
    else:
        print(NOT_COMPARED)
    for peer, why in faults.items():
        print(f"{peer} could not be run: {why}")
    print()
    for line in (*kept, *targets(options.counts, ratios)):
        print(line)
    if options.plot is not None:
        from plot import draw

        draw(figures, options.plot)


if __name__ == "__main__":
    main()
