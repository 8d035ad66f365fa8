"""The detector's scores: from which score on a first sighting is to be believed is learnt from the stream.

Over the range of the scores, two shares are counted. The share of observations that belong to no track shows whether
scores and tracks are related at all. The share of first sightings that are not seen again in the next frame says how
often a detection that begins a track is false. Both are taken to fall with the score, and to be constant where they do
not (isotonic regression by pooling adjacent violators).

A first sighting that is clearly false begins no track. It is remembered for one frame, so that it still counts as seen
again, and a second sighting begins the track.

A score does not change which track a detection continues. As a factor of the odds of a track over a birth it lost more
than it gained, on drawn scenes and on MOT17: low ones also come from objects that are half hidden.

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
ESTABLISHED = 16  # the class of tracks with many observations, seen in the frame before: (N_AGES − 1) · N_GAPS
NO_BIN = -1  # of a detection without a score
MEMORY, FIRST_MEMORY = 4000.0, 1000.0  # observations, and first sightings, that are remembered
LEAST_SIGNIFICANCE = 25.0  # of the classes together, twice the log likelihood ratio over one class (a G-test)
# A first sighting is doubtful if its chance of being real is below this, also where that is by so many standard
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
def _say_something(counts: Floats, parts: Floats, wholes: Floats, ends: Indices) -> bool:
    """Whether the share of observations that belong to no track depends on the score (a G-test).

    Args:
        counts: (4, N_BINS).
        parts: (N_BINS,) scratch, as the others.
        wholes: (N_BINS,).
        ends: (N_BINS,).
    """
    count = _pool(counts[BIRTHS], counts[BIRTHS] + counts[TRACKS], parts, wholes, ends)
    births, total = 0.0, 0.0
    for k in range(count):
        births += parts[k]
        total += wholes[k]
    if count < 2 or not 0.0 < births < total:
        return False
    share, significance = births / total, 0.0
    for k in range(count):
        births, tracks = parts[k], wholes[k] - parts[k]
        if births > 0.0:
            significance += 2.0 * births * math.log(births / (wholes[k] * share))
        if tracks > 0.0:
            significance += 2.0 * tracks * math.log(tracks / (wholes[k] * (1.0 - share)))
    return bool(significance > LEAST_SIGNIFICANCE)


@piece
def _count_false_bins(counts: Floats, chance: float, parts: Floats, wholes: Floats, ends: Indices) -> int:
    """The number of bins, from the lowest on, in which a first sighting is clearly false.

    Args:
        counts: (4, N_BINS).
        chance: the chance that an established track is seen in the next frame.
        parts: (N_BINS,) scratch, as the others.
        wholes: (N_BINS,).
        ends: (N_BINS,).
    """
    missing = np.empty(N_BINS)
    for b in range(N_BINS):
        missing[b] = max(counts[FIRST, b] - counts[AGAIN, b], 0.0)
    count = _pool(missing, counts[FIRST], parts, wholes, ends)
    for k in range(count - 2, -1, -1):  # not the highest class: with that no score would be believed
        again = (wholes[k] - parts[k] + 1.0) / (wholes[k] + 2.0)
        deviation = math.sqrt(again * (1.0 - again) / (wholes[k] + 3.0))
        if again + DEVIATIONS * deviation < LEAST_CHANCE * chance:
            return int(ends[k] + 1)
    return 0


@compiled(
    INT, _READ_ONLY_SCORES, INTS, FLOATS, INTS, INTS, INTS, INT, INTS, INTS, records(STATISTICS), FLOAT_TABLE
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
) -> int:
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
        statistics: (1,) of the stream.
        counts: (4, N_BINS), written.

    Returns:
        the number of bins, from the lowest on, in which a first sighting is clearly false.
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
    if not _say_something(counts, parts, wholes, ends):
        return 0
    chance = statistics[0].returns[ESTABLISHED] / statistics[0].exposures[ESTABLISHED]
    return _count_false_bins(counts, chance, parts, wholes, ends)


@compiled(None, _READ_ONLY_SCORES, INTS, INTS)
def _find_bins(scores: NDArray[np.float32], rows: Indices, bins: Indices) -> None:
    """Write the bins (r,) of the scores of the (r,) rows."""
    for k in range(len(rows)):
        bins[k] = _bin(scores[rows[k]])


@compiled(FLAG, _READ_ONLY_SCORES, INTS, INT, FLOAT32_TABLE, FLOAT, INTS, FLOAT_TABLE, FLAGS)
def _doubt(
    scores: NDArray[np.float32],
    rows: Indices,
    false_bins: int,
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
        false_bins: `_learn`'s result.
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
        doubtful[i] = b != NO_BIN and b < false_bins
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
        self._counts = np.zeros((4, N_BINS))
        self._false_bins = 0  # in so many, from the lowest on, a first sighting is clearly false
        self._first_bins = np.zeros(0, np.intp)  # (S,)
        self._doubtful_bins = np.zeros(0, np.intp)  # (c,) of the doubtful detections of the frame before
        self.seen = False  # whether any frame had scores

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
        found = _doubt(scores, rows, self._false_bins, logits, least, bins, self._counts, doubtful)
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
        self._false_bins = _learn(
            scores, rows, births, slots, columns, kept, n_kept, kinds, self._first_bins, statistics, self._counts
        )

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
            "false_bins": self._false_bins,
            "first_bins": self._first_bins[slots],
            "doubtful_bins": self._doubtful_bins.copy(),
        }

    def restore(self, state: State, slots: Slots) -> None:
        """Replace the state by that of a snapshot."""
        self.seen = True
        self._counts, self._false_bins = np.array(state["counts"]), int(state["false_bins"])
        self._first_bins = np.zeros(0, np.intp)
        self._reserve(int(slots.max(initial=-1)) + 1)
        self._first_bins[slots] = state["first_bins"]
        self._doubtful_bins = np.array(state["doubtful_bins"], np.intp)
