"""Ids after animals were in one box: scenes in which boxes that overlap are one, as background subtraction gives them.

    TRACKD_SHARED=../shared python benchmarks/merges.py [SCENE ...] [--seeds N]

Of each scene the boxes of single animals are scored (TrackEval): as if no merge were found, with the defaults, and with
`max_tracks: N`. `in box` is the share of the animals in a box with another one whose ids are told.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from identity_sequence import SHARED, figures, table
from merged_scenes import SCENES, MergedFrame, guppies
from trackd.config import TrackerConfig
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

FRAME_NS = 33_000_000
FIRST_SEED = 100


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of a scene under one setting."""

    hota: float
    assa: float
    idf1: float
    switches: int
    ids: int
    told: float  # 0 to 1

    def __str__(self) -> str:
        return f"{self.hota:6.1f}{self.assa:6.1f}{self.idf1:6.1f}{self.switches:5d}{self.ids:5d}{100 * self.told:5.0f}"


def measure(sequences: list[list[MergedFrame]], n: int, follows_merges: bool, closed: bool) -> Row:
    pairs, made, hidden, told = [], 0, 0, 0
    for frames in sequences:
        scorer = MotionScorer()
        scorer.follows_merges = follows_merges
        tracker = Tracker(TrackerConfig(max_tracks=n if closed else None), scorer)
        truth, found = [], []
        for number, frame in enumerate(frames):
            instances = Instances.of(Detections(boxes=frame.boxes), LiveDataset())
            result = tracker.step(number, number * FRAME_NS, instances, None, number)
            counts = np.array([len(animals) for animals in frame.animals], int)
            in_row = np.bincount(np.array(result.merged_rows, int), minlength=len(counts))
            hidden += int(np.maximum(counts - 1, 0).sum())
            told += int(np.minimum(in_row, np.maximum(counts - 1, 0)).sum())
            single, given = np.flatnonzero(counts == 1), np.flatnonzero((counts < 2) & (result.track_ids >= 0))
            truth.append((np.array([frame.animals[row][0] for row in single], int), frame.boxes[single]))
            found.append((result.track_ids[given], frame.boxes[given]))
        made += tracker.next_id
        pairs.append((table(truth), table(found)))
    scored = figures(pairs)
    return Row(scored.hota, scored.assa, scored.idf1, scored.switches, made, told / max(hidden, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"of {', '.join(SCENES)}, guppies; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    unknown = [name for name in options.scenes if name not in SCENES and name != "guppies"]
    if unknown:
        parser.error(f"no scene is named {unknown[0]!r}; there are {', '.join(SCENES)}, guppies")
    columns = f"{'HOTA':>6}{'AssA':>6}{'IDF1':>6}{'IDSW':>5}{'ids':>5}{'in box':>7}"
    print(f"{'':20}{'no merges':^33}  {'defaults':^33}  {'max_tracks: N':^33}\n{'':20}" + "  ".join([columns] * 3))
    rows = []
    for name in options.scenes or [*SCENES, "guppies"]:
        if name == "guppies":
            if not (SHARED / "data" / "trex_guppies8").exists():
                print("guppies: no recording; TRACKD_SHARED names the folder of the recordings")
                continue
            sequences, n = [guppies(SHARED)], 8
        else:
            sequences = [SCENES[name].frames(FIRST_SEED + seed) for seed in range(options.seeds)]
            n = SCENES[name].n
        settings = ((False, False), (True, False), (True, True))
        rows.append([measure(sequences, n, *setting) for setting in settings])
        print(f"{name:20}" + "    ".join(map(str, rows[-1])), flush=True)
    for title, column in (("mean AssA", "assa"), ("mean IDSW", "switches")):
        means = np.mean([[getattr(row, column) for row in each] for each in rows], axis=0)
        print(f"{title}: {means[0]:.1f}, {means[1]:.1f}, {means[2]:.1f}")


if __name__ == "__main__":
    main()
