"""What `track_scores` and the flag `low_confidence` say about identity: measured on the sets of identity.py.

    TRACKD_SHARED=../shared python benchmarks/confidence.py [SET ...] [--variants NAME ...] [--plot FILE]

A match of an instance to an existing track is right if the track's previous observation was of the same true object.
Matches of a false detection to a track whose previous observation was false too are left out, and detections of which
the truth does not say whose they are (a detector's box beside a true one) are passed over. ECE, the expected
calibration error, is the mean over the bins of |mean score − share right|, weighted by matches (Guo et al. 2017). A
switch is a true object whose track id differs from that of its previous detection; a frame is flagged where
`tracker.confidence_threshold` says so. A flag says nothing if it marks as many switches as frames.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.stats import rankdata

from identity_sequence import UNKNOWN, VARIANTS, Sequence
from identity_sets import SETS
from tracked import assignments

EDGES = np.array([0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
FRAMES = 600  # of a sequence, at most
THRESHOLDS = (0.1, 0.5, 0.7, 0.9, 0.97)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The matches of a sequence to existing tracks, and its switches. Letters: m matches, s switches, f frames."""

    scores: NDArray[np.float64]  # (m,)
    right: NDArray[np.bool_]  # (m,)
    frames: NDArray[np.int64]  # (m,)
    switches: NDArray[np.int64]  # (s,) their frames
    flagged: NDArray[np.bool_]  # (f,)


def matches(sequence: Sequence, confidence_threshold: float = 0.0) -> Matches:
    """Track a sequence, and compare its ids with the true ones."""
    owner_of: dict[int, int] = {}  # by track, at its latest observation
    track_of: dict[int, int] = {}  # by true object
    rows: list[tuple[float, bool, int]] = []
    switches: list[int] = []
    flagged: list[bool] = []
    found = assignments(sequence, confidence_threshold=confidence_threshold)
    for number, (owners, assignment) in enumerate(zip(sequence.owners, found, strict=True)):
        flagged.append("low_confidence" in assignment.flags)
        triples = zip(owners.tolist(), assignment.track_ids.tolist(), assignment.track_scores.tolist(), strict=True)
        for owner, track_id, score in triples:
            if track_id < 0 or owner == UNKNOWN:
                continue
            before = owner_of.get(track_id, -1)
            if np.isfinite(score) and (owner >= 0 or before >= 0):
                rows.append((score, owner == before, number))
            if owner >= 0 and track_of.get(owner, track_id) != track_id:
                switches.append(number)
            owner_of[track_id] = owner
            if owner >= 0:
                track_of[owner] = track_id
    scores, right, frames = np.array(rows).reshape(-1, 3).T
    return Matches(scores, right.astype(bool), frames.astype(int), np.array(switches, int), np.array(flagged))


def joined(each: Iterable[Matches]) -> Matches:
    """Return the matches of several sequences as those of one."""
    parts: list[tuple[NDArray[np.generic], ...]] = []
    start = 0
    for one in each:
        parts.append((one.scores, one.right, one.frames + start, one.switches + start, one.flagged))
        start += len(one.flagged)
    return Matches(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@dataclass(frozen=True, slots=True)
class Bin:
    """The matches with scores from `low` to `high`."""

    low: float
    high: float
    n: int
    score: float  # their mean
    right: float  # share


def bins(found: Matches) -> list[Bin]:
    """Return the bins that have matches."""
    place = np.clip(np.searchsorted(EDGES, found.scores, side="right") - 1, 0, len(EDGES) - 2)
    made = []
    for number in np.unique(place):
        here = place == number
        low, high = float(EDGES[number]), float(EDGES[number + 1])
        made.append(Bin(low, high, int(here.sum()), float(found.scores[here].mean()), float(found.right[here].mean())))
    return made


def calibration_error(found: Matches) -> float:
    total = len(found.scores)
    return sum(each.n / total * abs(each.score - each.right) for each in bins(found))


def ranking(found: Matches) -> float:
    """Return the share of pairs of a right and a wrong match in which the right one has the higher score (AUROC)."""
    n_right, n_wrong = int(found.right.sum()), int((~found.right).sum())
    if not n_right or not n_wrong:
        return float("nan")
    above = rankdata(found.scores)[found.right].sum() - n_right * (n_right + 1) / 2
    return float(above / (n_right * n_wrong))


@dataclass(frozen=True, slots=True)
class Flags:
    """What a threshold flags; shares of all."""

    threshold: float
    frames: float
    switches: float
    wrong: float  # matches


def flags(found: Matches, threshold: float) -> Flags:
    marked = found.flagged
    wrong = found.frames[~found.right]
    shares = [float(marked[rows].mean()) if len(rows) else float("nan") for rows in (found.switches, wrong)]
    return Flags(threshold, float(marked.mean()), *shares)


def print_scores(by_set: dict[str, Matches]) -> list[Bin]:
    print(f"{'':22}{'matches':>9}{'wrong':>7}{'score':>8}{'right':>8}{'ECE':>8}{'ranked':>8}")
    everything = joined(by_set.values())
    for name, found in [*by_set.items(), ("all", everything)]:
        ranked = ranking(found)
        print(
            f"{name:22}{len(found.scores):9d}{int((~found.right).sum()):7d}{found.scores.mean():8.3f}"
            f"{found.right.mean():8.3f}{calibration_error(found):8.3f}"
            + (f"{'–':>8}" if np.isnan(ranked) else f"{ranked:8.3f}")
        )
    each = np.mean([calibration_error(found) for found in by_set.values()])
    print(f"ECE, mean over the sets: {each:.3f}")
    print("score: mean of `track_scores`; ranked: share of pairs in which the right match has a higher score (AUROC)\n")
    curve = bins(everything)
    print(f"{'score':>12}{'matches':>10}{'mean score':>12}{'right':>8}")
    for one in curve:
        print(f"{f'{one.low:.2f}–{one.high:.2f}':>12}{one.n:10d}{one.score:12.3f}{one.right:8.3f}")
    return curve


def print_flags(rows: list[Flags]) -> None:
    print(f"\n{'confidence_threshold':>20}{'frames flagged':>16}{'switches in them':>18}{'wrong matches in them':>23}")
    for row in rows:
        cells = (f"{100 * value:.1f} %" for value in (row.frames, row.switches, row.wrong))
        print(f"{row.threshold:20g}" + "".join(f"{cell:>{n}}" for cell, n in zip(cells, (16, 18, 23), strict=True)))


def draw(curve: list[Bin], rows: list[Flags], path: Path) -> None:
    """Draw the reliability curve, and the flagged switches against the flagged frames."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "trackd"
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], color="lightgrey", linewidth=1)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        axes.grid(visible=True, alpha=0.3)
    left.plot([one.score for one in curve], [one.right for one in curve], marker="o", color="tab:blue")
    left.set(xlabel="track_scores, mean of a bin", ylabel="share of right matches")
    right.plot([row.frames for row in rows], [row.switches for row in rows], marker="o", label="switches")
    right.plot([row.frames for row in rows], [row.wrong for row in rows], marker="s", label="wrong matches")
    for row in rows:
        right.annotate(f"{row.threshold:g}", (row.frames, row.switches), (4, -10), textcoords="offset points", size=8)
    right.set(xlabel="share of frames flagged low_confidence", ylabel="share of them in flagged frames")
    right.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; default: all")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"at most so many of a sequence ({FRAMES})")
    parser.add_argument("--plot", type=Path, help="draw the figures to this file")
    options = parser.parse_args()
    unknown = [name for name in options.sets if name not in SETS]
    if unknown:
        parser.error(f"no set is named {unknown[0]!r}; there are {', '.join(SETS)}")
    names = options.sets or list(SETS)
    plain: dict[str, Matches] = {}
    with_flags: dict[float, list[Matches]] = {threshold: [] for threshold in THRESHOLDS}
    console = Console(stderr=True)
    for name in track(names, "confidence", console=console, transient=True):
        variants = options.variants if SETS[name].varied else ["plain"]
        sequences = [each for variant in variants for each in SETS[name].sequences(variant, options.frames)]
        plain[name] = joined(matches(each) for each in sequences)
        for threshold, found in with_flags.items():
            found += [matches(each, threshold) for each in sequences]
    curve = print_scores(plain)
    rows = [flags(joined(found), threshold) for threshold, found in with_flags.items()]
    print_flags(rows)
    if options.plot is not None:
        draw(curve, rows, options.plot)


if __name__ == "__main__":
    main()
