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

from trackd.compiled import FLAG, FLAGS, FLOAT, FLOAT32_TABLE, FLOAT_TABLE, FLOATS, INT, INTS, compiled, piece, records
from trackd.models.motion.records import STATISTICS
from trackd.tracking.window import Slots, State

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

N_BINS = 48  # of the scores from 0 to 1; lower and higher ones are in the first and the last
TRACKS, BIRTHS, FIRST, AGAIN = 0, 1, 2, 3  # rows of the counts
ODDS, DOUBTFUL = 0, 1  # rows of what follows from them: what a score adds to the log odds; 1: a first sighting is false
ESTABLISHED = 16  # the class of tracks with many observations, seen in the frame before: (N_AGES − 1) · N_GAPS
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
def _conclude_odds(counts: Floats, meaning: Floats, parts: Floats, wholes: Floats, ends: Indices) -> bool:
    """Write what the scores of each bin add to the log odds of a track over a birth; returns whether they say anything.

    Args:
        counts: (4, N_BINS).
        meaning: (2, N_BINS), the first row is written.
        parts: (N_BINS,) scratch, as the others.
        wholes: (N_BINS,).
        ends: (N_BINS,).
    """
    meaning[ODDS, :] = 0.0
    count = _pool(counts[BIRTHS], counts[BIRTHS] + counts[TRACKS], parts, wholes, ends)
    births, total = 0.0, 0.0
    for k in range(count):
        births += parts[k]
        total += wholes[k]
    if count < 2 or not 0.0 < births < total:
        return False
    share, significance = births / total, 0.0
    for k in range(count):
        births, tracks = parts[k], max(wholes[k] - parts[k], 0.0)
        if births > 0.0:
            significance += 2.0 * births * math.log(births / (wholes[k] * share))
        if tracks > 0.0:
            significance += 2.0 * tracks * math.log(tracks / (wholes[k] * (1.0 - share)))
    if significance <= LEAST_SIGNIFICANCE:
        return False
    k, odds = -1, 0.0
    for b in range(N_BINS):
        if k < 0 or (k < count - 1 and ends[k] < b):  # a bin between two classes belongs to the one of higher scores
            k += 1
            births, tracks = parts[k] + PRIOR_WEIGHT * share, wholes[k] - parts[k] + PRIOR_WEIGHT * (1.0 - share)
            odds = min(max(math.log(tracks / births * (share / (1.0 - share))), 0.0), MOST_EVIDENCE)
        meaning[ODDS, b] = odds
    return True


@piece
def _conclude_doubt(
    counts: Floats, chance: float, meaning: Floats, parts: Floats, wholes: Floats, ends: Indices
) -> None:
    """Write for each bin whether a first sighting with its score is clearly false.

    Args:
        counts: (4, N_BINS).
        chance: the chance that an established track is seen in the next frame.
        meaning: (2, N_BINS), the second row is written.
        parts: (N_BINS,) scratch, as the others.
        wholes: (N_BINS,).
        ends: (N_BINS,).
    """
    missing = np.empty(N_BINS)
    for b in range(N_BINS):
        missing[b] = max(counts[FIRST, b] - counts[AGAIN, b], 0.0)
    count = _pool(missing, counts[FIRST], parts, wholes, ends)
    if count < 2:
        return
    for k in range(count - 1, -1, -1):
        again = (wholes[k] - parts[k] + 1.0) / (wholes[k] + 2.0)
        deviation = math.sqrt(again * (1.0 - again) / (wholes[k] + 3.0))
        if again + DEVIATIONS * deviation < LEAST_CHANCE * chance:
            meaning[DOUBTFUL, : ends[k] + 1] = 1.0  # lower scores are not more often seen again
            break


@compiled(FLOAT, _READ_ONLY_SCORES, FLOAT_TABLE, FLOATS)
def _weigh(scores: NDArray[np.float32], meaning: Floats, evidence: Floats) -> float:
    """Write the log odds of a track over a birth that each score (n,) adds; returns the largest, or 0."""
    most = 0.0
    for i in range(len(scores)):
        b = _bin(scores[i])
        evidence[i] = meaning[ODDS, b] if b != NO_BIN else 0.0
        most = max(most, evidence[i])
    return most


@compiled(
    None, _READ_ONLY_SCORES, INTS, FLOATS, INTS, INTS, INTS, INT, INTS, INTS, records(STATISTICS), FLOAT_TABLE,
    FLOAT_TABLE,
)  # fmt: skip
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
    statistics: NDArray[np.void],
    counts: Floats,
    meaning: Floats,
) -> None:
    """Count a frame, and conclude what the scores mean.

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
        statistics: (1,) of the stream.
        counts: (4, N_BINS), written.
        meaning: (2, N_BINS), written.
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
    parts, wholes, ends = np.empty(N_BINS), np.empty(N_BINS), np.empty(N_BINS, np.int64)
    meaning[DOUBTFUL, :] = 0.0
    if _conclude_odds(counts, meaning, parts, wholes, ends):
        chance = statistics[0].returns[ESTABLISHED] / statistics[0].exposures[ESTABLISHED]
        _conclude_doubt(counts, chance, meaning, parts, wholes, ends)


@compiled(None, _READ_ONLY_SCORES, INTS, INTS)
def _find_bins(scores: NDArray[np.float32], rows: Indices, bins: Indices) -> None:
    """Write the bins (r,) of the scores of the (r,) rows."""
    for k in range(len(rows)):
        bins[k] = _bin(scores[rows[k]])


@compiled(FLAG, _READ_ONLY_SCORES, INTS, FLOAT_TABLE, FLOAT32_TABLE, FLOAT, INTS, FLOAT_TABLE, FLAGS)
def _doubt(
    scores: NDArray[np.float32],
    rows: Indices,
    meaning: Floats,
    logits: NDArray[np.float32],
    least: float,
    bins: Indices,
    counts: Floats,
    doubtful: NDArray[np.bool_],
) -> bool:
    """Doubt unmatched rows (r,), and count the (c,) doubtful detections of the frame before that are seen again.

    Args:
        scores: (n,).
        rows: (r,).
        meaning: (2, N_BINS).
        logits: (r, c) of the unmatched rows.
        least: a row whose logit is above this continues a doubtful detection, and is not doubtful.
        bins: (c,) of the doubtful detections of the frame before.
        counts: (4, N_BINS), written.
        doubtful: (r,) written: whether a row is clearly a false detection.

    Returns:
        whether a row is doubtful.
    """
    for i in range(len(rows)):
        b = _bin(scores[rows[i]])
        doubtful[i] = b != NO_BIN and meaning[DOUBTFUL, b] > 0.0
    for j in range(len(bins)):
        again = False
        for i in range(len(logits)):
            if logits[i, j] > least:
                again, doubtful[i] = True, False
        if bins[j] != NO_BIN:
            counts[FIRST, bins[j]] += 1.0
            counts[AGAIN, bins[j]] += 1.0 if again else 0.0
    return bool(doubtful.any())


class DetectorScores:
    """What the scores of one stream say: the counts, and the bin of each track's first sighting, by slot."""

    def __init__(self) -> None:
        self._counts, self._meaning = np.zeros((4, N_BINS)), np.zeros((2, N_BINS))
        self._first_bins = np.zeros(0, np.intp)  # (S,)
        self._doubtful_bins = np.zeros(0, np.intp)  # (c,) of the doubtful detections of the frame before
        self.seen = False  # whether any frame had scores

    def weigh(self, scores: NDArray[np.float32], evidence: Floats) -> float:
        """Write the log odds of a track over a birth that each score (n,) adds; returns the largest, or 0."""
        return _weigh(scores, self._meaning, evidence)

    def doubt(
        self, scores: NDArray[np.float32], rows: Indices, logits: NDArray[np.float32], least: float
    ) -> NDArray[np.bool_] | None:
        """Return which of the unmatched (r,) rows are clearly false, or None; count what is seen again.

        Args:
            scores: (n,).
            rows: (r,).
            logits: (r, c) of these rows against the doubtful detections of the frame before.
            least: a row with a logit above this is one of those again.
        """
        doubtful = np.empty(len(rows), np.bool_)
        bins, self._doubtful_bins = self._doubtful_bins, self._doubtful_bins[:0]
        found = _doubt(scores, rows, self._meaning, logits, least, bins, self._counts, doubtful)
        return doubtful if found else None

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
        statistics: NDArray[np.void],
        capacity: int,
    ) -> None:
        """Count a frame; the arguments are those of `_learn`, and the number of slots."""
        self.seen = True
        self._reserve(capacity)
        _learn(
            scores, rows, births, slots, columns, kept, n_kept, kinds, self._first_bins, statistics, self._counts,
            self._meaning,
        )  # fmt: skip

    def begin(self, slots: Slots, rows: Indices, scores: NDArray[np.float32], capacity: int) -> None:
        """Note the scores of the (m,) rows with which tracks begin in (m,) slots; `capacity` is the number of slots."""
        self._reserve(capacity)
        bins = np.empty(len(slots), np.intp)
        _find_bins(scores, rows, bins)
        self._first_bins[slots] = bins

    def remember_doubtful(self, scores: NDArray[np.float32], rows: Indices) -> None:
        """Note the scores of the (c,) rows that are doubtful in this frame."""
        if len(self._doubtful_bins):  # no row was unmatched, so none was seen again
            self.doubt(scores, rows[:0], np.empty((0, len(self._doubtful_bins)), np.float32), 0.0)
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
            "meaning": self._meaning.copy(),
            "first_bins": self._first_bins[slots],
            "doubtful_bins": self._doubtful_bins.copy(),
        }

    def restore(self, state: State, slots: Slots) -> None:
        """Replace the state by that of a snapshot."""
        self.seen = True
        self._counts, self._meaning = np.array(state["counts"]), np.array(state["meaning"])
        self._first_bins = np.zeros(0, np.intp)
        self._reserve(int(slots.max(initial=-1)) + 1)
        self._first_bins[slots] = state["first_bins"]
        self._doubtful_bins = np.array(state["doubtful_bins"], np.intp)
