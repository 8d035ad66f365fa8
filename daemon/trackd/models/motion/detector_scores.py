"""The detector's scores as evidence: what they say about a detection is learnt from the stream.

Over the range of the scores, two shares are counted. The share of observations that belong to no track says how a score
changes the odds of a track over a birth. The share of first sightings that are not seen again in the next frame says
how often a detection that begins a track is false. Both are taken to fall with the score, and to be constant where they
do not (isotonic regression by pooling adjacent violators). Where the scores say nothing, nothing changes.

A first sighting that is probably false begins no track. It is remembered for one frame, so that it still counts as seen
again, and a second sighting begins the track.

Letters: n instances, r unmatched rows, S slots, m matched tracks, M predicted tracks, c doubtful detections.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from trackd.compiled import FLAGS, FLOAT, FLOAT_TABLE, FLOATS, INT, INTS, compiled, piece
from trackd.tracking.window import Slots, State

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

N_BINS = 64  # of the scores from 0 to 1; lower and higher ones are in the first and the last
TRACKS, BIRTHS, FIRST, AGAIN = 0, 1, 2, 3  # rows of the counts
NO_BIN = -1  # of a detection without a score
MEMORY, FIRST_MEMORY = 4000.0, 1000.0  # observations, and first sightings, that are remembered
PRIOR_WEIGHT = 10.0  # observations with the stream's own share that each class counts as
LEAST_SIGNIFICANCE = 25.0  # of the classes together, twice the log likelihood ratio over one class (a G-test)
# The most that a score adds to the log odds. A low score takes nothing away: a match with a false detection costs one
# frame, while the caution of a logit counts with the exchange of two objects.
MOST_EVIDENCE = 0.75
# A first sighting is doubtful if it is likelier to be false, also where its chance of being real is by so many standard
# deviations higher than measured.
LEAST_CHANCE, DEVIATIONS = 0.4, 2.0

_READ_ONLY_SCORES = types.Array(types.float32, 1, "A", readonly=True)  # also a constant, or a part of a table


@piece
def _bin(score: float) -> int:
    """The bin of a score, or `NO_BIN`."""
    if math.isnan(score):
        return NO_BIN
    return int(min(max(score, 0.0), 1.0 - 0.5 / N_BINS) * N_BINS)


@piece
def _pool(part: Floats, whole: Floats, parts: Floats, wholes: Floats, ends: Indices) -> int:
    """Join neighbouring bins to classes, so that the share part / whole falls from class to class.

    Args:
        part: (N_BINS,) at least 0.
        whole: (N_BINS,).
        parts: (N_BINS,) written: the sum of each class.
        wholes: (N_BINS,) written.
        ends: (N_BINS,) written: the last bin of each class.

    Returns:
        the number of classes.
    """
    count = 0
    for b in range(N_BINS):
        if whole[b] <= 0.0:
            continue
        parts[count], wholes[count], ends[count] = part[b], whole[b], b
        count += 1
        while count > 1 and parts[count - 1] * wholes[count - 2] >= parts[count - 2] * wholes[count - 1]:
            parts[count - 2] += parts[count - 1]
            wholes[count - 2] += wholes[count - 1]
            ends[count - 2] = ends[count - 1]
            count -= 1
    return count


@piece
def _class_of(b: int, ends: Indices, count: int) -> int:
    """The class of a bin; a bin between two classes belongs to the one of higher scores."""
    k = 0
    while k < count - 1 and ends[k] < b:
        k += 1
    return k


@piece
def _odds_of_classes(counts: Floats, ends: Indices, odds: Floats) -> int:
    """Compute what the scores of each class add to the log odds of a track over a birth.

    Args:
        counts: (4, N_BINS).
        ends: (N_BINS,) written: the last bin of each class.
        odds: (N_BINS,) written.

    Returns:
        the number of classes; 0 if the scores say nothing.
    """
    parts, wholes = np.empty(N_BINS), np.empty(N_BINS)
    count = _pool(counts[BIRTHS], counts[BIRTHS] + counts[TRACKS], parts, wholes, ends)
    births, total = 0.0, 0.0
    for k in range(count):
        births += parts[k]
        total += wholes[k]
    if count < 2 or not 0.0 < births < total:
        return 0
    share, significance = births / total, 0.0
    for k in range(count):
        births, tracks = parts[k], max(wholes[k] - parts[k], 0.0)
        if births > 0.0:
            significance += 2.0 * births * math.log(births / (wholes[k] * share))
        if tracks > 0.0:
            significance += 2.0 * tracks * math.log(tracks / (wholes[k] * (1.0 - share)))
        tracks, births = tracks + PRIOR_WEIGHT * (1.0 - share), births + PRIOR_WEIGHT * share
        odds[k] = min(max(math.log(tracks / births * (share / (1.0 - share))), 0.0), MOST_EVIDENCE)
    return count if significance > LEAST_SIGNIFICANCE else 0


@compiled(FLOAT, _READ_ONLY_SCORES, FLOAT_TABLE, FLOATS)
def _weigh(scores: NDArray[np.float32], counts: Floats, evidence: Floats) -> float:
    """Write the log odds of a track over a birth that each score (n,) adds; returns the largest, or 0."""
    odds, ends = np.empty(N_BINS), np.empty(N_BINS, np.int64)
    count, most = _odds_of_classes(counts, ends, odds), 0.0
    for i in range(len(scores)):
        b = _bin(scores[i])
        evidence[i] = odds[_class_of(b, ends, count)] if count > 0 and b != NO_BIN else 0.0
        most = max(most, evidence[i])
    return most


@compiled(None, _READ_ONLY_SCORES, INTS, FLOAT_TABLE, FLOAT, FLAGS)
def _doubt(
    scores: NDArray[np.float32], rows: Indices, counts: Floats, chance: float, doubtful: NDArray[np.bool_]
) -> None:
    """Write for each of the (r,) rows whether a first sighting with its score is clearly false.

    Args:
        scores: (n,).
        rows: (r,).
        counts: (4, N_BINS).
        chance: the chance that an object which was seen twice is seen in the next frame.
        doubtful: (r,) written.
    """
    parts, wholes, ends = np.empty(N_BINS), np.empty(N_BINS), np.empty(N_BINS, np.int64)
    says_something = _odds_of_classes(counts, ends, parts) > 0
    missing = np.empty(N_BINS)
    for b in range(N_BINS):
        missing[b] = max(counts[FIRST, b] - counts[AGAIN, b], 0.0)
    count = _pool(missing, counts[FIRST], parts, wholes, ends)
    for k in range(len(rows)):
        doubtful[k] = False
        b = _bin(scores[rows[k]])
        if b == NO_BIN or count < 2 or not says_something:
            continue
        at = _class_of(b, ends, count)
        again = (wholes[at] - parts[at] + 1.0) / (wholes[at] + 2.0)
        deviation = math.sqrt(again * (1.0 - again) / (wholes[at] + 3.0))
        doubtful[k] = again + DEVIATIONS * deviation < LEAST_CHANCE * chance


@compiled(None, _READ_ONLY_SCORES, INTS, FLOATS, INTS, INTS, INTS, INT, INTS, INTS, FLOAT_TABLE)
def _learn(
    scores: NDArray[np.float32],
    rows: Indices,
    births: Floats,
    slots: Slots,
    columns: Indices,
    kept: Slots,
    n_kept: int,
    kinds: Indices,
    first_bins: Indices,
    counts: Floats,
) -> None:
    """Count a frame.

    Args:
        scores: (n,).
        rows: (≥ m,) of the matched tracks, and behind them the unmatched rows.
        births: of each of the `rows` the chance that it belongs to no track; NaN: unknown.
        slots: (m,) of the matched tracks.
        columns: (m,) their indices in `kept`.
        kept: slots of the predicted tracks.
        n_kept: M.
        kinds: (M,) their classes; 0: seen once, in the frame before.
        first_bins: (≥ S,) the bin of each track's first sighting.
        counts: (4, N_BINS), written.
    """
    total, first = 0.0, 0.0
    for b in range(N_BINS):
        total += counts[TRACKS, b] + counts[BIRTHS, b]
        first += counts[FIRST, b]
    if total > MEMORY:
        for b in range(N_BINS):
            counts[TRACKS, b] *= MEMORY / total
            counts[BIRTHS, b] *= MEMORY / total
    if first > FIRST_MEMORY:
        for b in range(N_BINS):
            counts[FIRST, b] *= FIRST_MEMORY / first
            counts[AGAIN, b] *= FIRST_MEMORY / first
    for k in range(len(rows)):
        b = _bin(scores[rows[k]])
        if b != NO_BIN and not math.isnan(births[k]):
            counts[BIRTHS, b] += births[k]
            counts[TRACKS, b] += 1.0 - births[k]
    for j in range(n_kept):
        if kinds[j] == 0 and first_bins[kept[j]] != NO_BIN:
            counts[FIRST, first_bins[kept[j]]] += 1.0
    for k in range(len(slots)):
        if kinds[columns[k]] == 0 and first_bins[slots[k]] != NO_BIN:
            counts[AGAIN, first_bins[slots[k]]] += 1.0 - births[k]


@compiled(None, _READ_ONLY_SCORES, INTS, INTS)
def _find_bins(scores: NDArray[np.float32], rows: Indices, bins: Indices) -> None:
    """Write the bins (r,) of the scores of the (r,) rows."""
    for k in range(len(rows)):
        bins[k] = _bin(scores[rows[k]])


class DetectorScores:
    """What the scores of one stream say: the counts, and the bin of each track's first sighting, by slot."""

    def __init__(self) -> None:
        self._counts = np.zeros((4, N_BINS))
        self._first_bins = np.zeros(0, np.intp)  # (S,)
        self._doubtful_bins = np.zeros(0, np.intp)  # (c,) of the doubtful detections of the frame before
        self.seen = False  # whether any frame had scores

    def weigh(self, scores: NDArray[np.float32], evidence: Floats) -> float:
        """Write the log odds of a track over a birth that each score (n,) adds; returns the largest, or 0."""
        return _weigh(scores, self._counts, evidence)

    def doubt(self, scores: NDArray[np.float32], rows: Indices, chance: float) -> NDArray[np.bool_]:
        """Return for each of the (r,) rows whether a first sighting with its score is clearly false.

        Args:
            scores: (n,).
            rows: (r,).
            chance: the chance that an established track is seen in the next frame.
        """
        doubtful = np.empty(len(rows), np.bool_)
        _doubt(scores, rows, self._counts, chance, doubtful)
        return doubtful

    def learn(
        self,
        scores: NDArray[np.float32],
        rows: Indices,
        births: Floats,
        slots: Slots,
        columns: Indices,
        kept: Slots,
        n_kept: int,
        kinds: Indices,
        capacity: int,
    ) -> None:
        """Count a frame; the arguments are those of `_learn`, and the number of slots."""
        self.seen = True
        self._reserve(capacity)
        _learn(scores, rows, births, slots, columns, kept, n_kept, kinds, self._first_bins, self._counts)

    def begin(self, slots: Slots, rows: Indices, scores: NDArray[np.float32], capacity: int) -> None:
        """Note the scores of the (m,) rows with which tracks begin in (m,) slots; `capacity` is the number of slots."""
        self._reserve(capacity)
        bins = np.empty(len(slots), np.intp)
        _find_bins(scores, rows, bins)
        self._first_bins[slots] = bins

    def count_doubtful(self, again: NDArray[np.bool_]) -> None:
        """Count which (c,) of the doubtful detections of the frame before were seen again."""
        bins = self._doubtful_bins
        np.add.at(self._counts[FIRST], bins, 1.0)
        np.add.at(self._counts[AGAIN], bins[again], 1.0)

    def remember_doubtful(self, scores: NDArray[np.float32], rows: Indices) -> None:
        """Note the scores of the (c,) rows that are doubtful in this frame."""
        self._doubtful_bins = np.empty(len(rows), np.intp)
        _find_bins(scores, rows, self._doubtful_bins)

    def _reserve(self, capacity: int) -> None:
        if capacity > len(self._first_bins):
            grown = np.full(capacity, NO_BIN)
            grown[: len(self._first_bins)] = self._first_bins
            self._first_bins = grown

    def snapshot(self, slots: Slots) -> State:
        """The counts, and the tracks in these slots. The names are part of the journal's format."""
        self._reserve(int(slots.max(initial=-1)) + 1)
        return {
            "counts": self._counts.copy(),
            "first_bins": self._first_bins[slots],
            "doubtful_bins": self._doubtful_bins.copy(),
        }

    def restore(self, state: State, slots: Slots) -> None:
        """Replace the state by that of a snapshot."""
        self.seen = True
        self._counts = np.array(state["counts"])
        self._first_bins = np.zeros(0, np.intp)
        self._reserve(int(slots.max(initial=-1)) + 1)
        self._first_bins[slots] = state["first_bins"]
        self._doubtful_bins = np.array(state["doubtful_bins"], np.intp)
