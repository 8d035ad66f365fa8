"""`max_tracks: N` beside the defaults, on closed sets whose detector misses animals and finds some that are none.

    TRACKD_SHARED=../shared python benchmarks/false_detections.py [SET ...] [--frames N]

Each set has so many objects all the time (identity_sets.py). To its detections come false ones of the usual size: at
places drawn evenly over the area of all boxes, or a reflection, always at one place. HOTA / AssA are means over seeds
10 to 15, with the `motion` scorer, online, without images and without detection scores that say anything.
"""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.progress import track as with_progress

from identity import ROUNDING
from identity_sequence import Figures, Sequence, figures, table
from identity_sets import SETS
from targets import Target
from tracked import tracks

NAMES = ("bounce6", "clip_pair", "fish8", "guppies8", "icy_10cells", "ten_zfish", "three_flies")
SEEDS = range(10, 16)
FRAMES = 400
SCORE = 0.9
JITTER_PX = 0.5  # std of a reflection's place


@dataclass(frozen=True, slots=True)
class Kind:
    """A detector's faults."""

    false: float  # detections per frame: the mean of a Poisson process, or of a reflection the share of the frames
    missed: float  # share of the objects
    reflection: bool = False


KINDS = {
    "rare": Kind(0.05, 0.05),
    "some": Kind(0.3, 0.05),
    "many": Kind(2.0, 0.1),
    "reflection, now and then": Kind(0.02, 0.02, True),
    "reflection, every other frame": Kind(0.5, 0.05, True),
    "reflection, nearly always": Kind(0.95, 0.05, True),
}


def with_faults(sequence: Sequence, kind: Kind, rng: np.random.Generator) -> Sequence:
    """Return a sequence with false detections, whose owner is −1, and without those that are missed."""
    all_boxes = np.concatenate(sequence.boxes)
    low, high = all_boxes.min(axis=0)[:2], all_boxes.max(axis=0)[2:]
    size = np.median(all_boxes[:, 2:] - all_boxes[:, :2], axis=0)
    spot = rng.uniform(low, high - size)
    boxes, scores, owners = [], [], []
    for found, owner in zip(sequence.boxes, sequence.owners, strict=True):
        kept = rng.random(len(found)) >= kind.missed
        if kind.reflection:
            count = int(rng.random() < kind.false)
            corners = spot + rng.normal(0, JITTER_PX, (count, 2))
        else:
            corners = rng.uniform(low, high - size, (int(rng.poisson(kind.false)), 2))
        both = np.concatenate([found[kept], np.concatenate([corners, corners + size], axis=1)]).astype(np.float32)
        order = rng.permutation(len(both))
        boxes.append(both[order])
        scores.append(np.full(len(both), SCORE, np.float32))
        owners.append(np.concatenate([owner[kept], np.full(len(corners), -1)])[order])
    return Sequence(boxes, scores, owners, sequence.truth)


def mean(sequence: Sequence, kind: Kind, **options: int) -> tuple[float, float]:
    """Return HOTA and AssA of a sequence with faults, each a mean over the seeds."""
    found: list[Figures] = []
    for seed in SEEDS:
        faulty = with_faults(sequence, kind, np.random.default_rng(seed))
        found.append(figures([(faulty.truth, table(tracks(faulty, **options)))]))
    return float(np.mean([each.hota for each in found])), float(np.mean([each.assa for each in found]))


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"at most so many of a sequence ({FRAMES})")
    options = parser.parse_args()
    unknown = [name for name in options.sets if name not in NAMES]
    if unknown:
        parser.error(f"no set is named {unknown[0]!r}; there are {', '.join(NAMES)}")
    todo = [(name, kind) for name in options.sets or NAMES for kind in KINDS]
    print(f"{'HOTA / AssA':16}{'false detections':32}{'defaults':>14}{'max_tracks: N':>16}")
    rows, margins = [], []
    for name, kind in with_progress(todo, console=Console(stderr=True), transient=True):
        sequence = SETS[name].sequences("plain", options.frames)[0]
        count = SETS[name].n
        assert count is not None, f"{name} is not a closed set"
        free, limited = mean(sequence, KINDS[kind]), mean(sequence, KINDS[kind], max_tracks=count)
        rows.append((*free, *limited))
        margins.append((limited[0] - free[0], f"{name}, {kind}"))
        print(f"{name:16}{kind:32}{free[0]:7.1f} / {free[1]:4.1f}{limited[0]:9.1f} / {limited[1]:4.1f}", flush=True)
    hota, assa, limited_hota, limited_assa = np.mean(rows, axis=0)
    print(f"{'mean':48}{hota:7.1f} / {assa:4.1f}{limited_hota:9.1f} / {limited_assa:4.1f}")
    worst, label = min(margins)
    what = "`motion`, closed sets with false detections: HOTA of `max_tracks: N` relative to the defaults"
    met = sum(margin >= -ROUNDING for margin, _ in margins)
    print(Target(what, "≥ 0", f"{worst:+.1f} ({label}); {met} of {len(margins)}", met == len(margins)))


if __name__ == "__main__":
    main()
