"""The motion scorer's state of one stream: its tracks by slot, its statistics, and the current frame.

Letters: n instances, S slots, M live tracks, m of them matched, K pairs, r unmatched rows, c doubtful ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.models.motion import kalman, merged_boxes, predict, update
from trackd.models.motion.detector_scores import DetectorScores
from trackd.models.motion.merging import Frame, Members, Merging, compare_wholes, widened
from trackd.models.motion.nearest import nearest_pairs
from trackd.models.motion.records import EXPECTED, N_CLASSES, STATISTICS, TRACK
from trackd.tracking.instances import Instances
from trackd.tracking.merging import Merged
from trackd.tracking.window import Slots, State

Indices = NDArray[np.intp]

DENSE_PAIRS = 4000  # above this number of pairs only near ones are scored
LARGE_TABLE = 65_536  # a table of so many pairs takes milliseconds: other threads run meanwhile
FEW_TRACKS = 24  # above this number of tracks those that cannot match are left out
MAX_PAIRS = 400_000  # more would take longer than a frame's period; only the nearest tracks are scored then,
MAX_COLUMNS = 32  # so many per instance

AGAIN = predict.GATE  # least logit at which a detection is a doubtful one seen again
_TIME_STEPS = kalman.time_steps()
_N_STATISTICS = STATISTICS.itemsize // 8
_FIELDS: Any = STATISTICS.fields
# Numbers that a snapshot of an earlier version has too.
_BEFORE_BIRTHS, _BEFORE_CLOSED = (int(_FIELDS[name][1]) // 8 for name in ("births", "first_births"))


class FilterBank:
    """Arrays of records that are written in place and grow by doubling.

    The calls of one frame, in order: `compare` if the frame has instances and the stream has tracks; `doubtful` if rows
    are unmatched; `update`; `begin` for new tracks; `end_frame`.
    """

    def __init__(self, use_scores: bool = True) -> None:
        """Start without tracks; `use_scores`: learn what the detector's scores say."""
        self._tracks = np.zeros(0, TRACK)  # (S,)
        self._statistics = update.initial_statistics()  # (1,)
        self._scratch = np.zeros(1, STATISTICS)
        self._exposed, self._returned = np.zeros(N_CLASSES), np.zeros(N_CLASSES)
        self._last_frame: int | None = None
        self.use_scores = use_scores
        self._scores = DetectorScores()
        self._doubtful = np.zeros(0, TRACK)  # (c,) of the frame before, as tracks that began there
        self.has_doubtful = False  # whether c is not 0
        self.closed = 0.0  # chance that no object comes or leaves
        self._stride = 0  # the least difference between two frame indices; 0 before the second frame
        self.merging = Merging()
        self._per_step = 1  # frame indices per time step, at the current frame
        self._model = -1  # the filter that `compare` used for the current frame; -1: not compared
        # Of the current frame; the first M or n of each.
        self._kept = np.zeros(0, np.intp)  # slots, ascending
        self._kinds = np.zeros(0, np.intp)  # their classes
        self._predicted = np.zeros(0, TRACK)
        self._expected = np.zeros(0, EXPECTED)
        self._observed = np.zeros((0, 4))
        self._n_kept, self._n_observed = 0, 0
        self._unowned = np.zeros(0)  # of each observation the chance that it belongs to no track

    def compare(
        self,
        instances: Instances,
        slots: Slots,
        frame_index: int,
        complete: bool,
        prune: bool,
        merged: Merged | None = None,
    ) -> tuple[NDArray[np.float32], Slots, Indices | None]:
        """Compare a frame's instances with the tracks.

        Args:
            instances: (n).
            slots: (M,) of the live tracks, ascending, at least one.
            frame_index: the frame's number.
            complete: score every pair.
            prune: leave out tracks that cannot match, if there are more than a few.
            merged: which tracks are in one box; None if none are.

        Returns:
            logits (n, columns), or (K,) of near pairs; the slots of the columns; the near pairs (2, K), or None.
        """
        n, m = len(instances), len(slots)
        self._reserve(n, m)
        self._per_step = self.indices_per_step(frame_index)
        quarters = kalman.QUARTERS / self._per_step
        m, self._model = predict.predict(
            self._tracks, slots, frame_index, quarters, _TIME_STEPS, self._statistics, prune and m > FEW_TRACKS,
            self._kept, self._kinds, self._predicted, self._expected, self._exposed,
        )  # fmt: skip
        self._n_kept, self._n_observed = m, n
        if m < len(slots):
            slots = self._kept[:m].copy()
        observed = self._observe(instances)
        expected, pairs = self._expected[:m], None
        logits: NDArray[np.float32]
        if merged is not None:
            members = Members.of(merged, self.frame())
            expected, wholes = widened(self.frame(), members)
        if complete or n * m <= DENSE_PAIRS:
            logits = np.empty((n, m), np.float32)
            compare = predict.compare if logits.size < LARGE_TABLE else predict.compare_many
            compare(observed, expected, logits)
        else:
            pairs = _near_pairs(observed, expected)
            logits = np.empty(pairs.shape[1], np.float32)
            predict.compare_pairs(observed, expected, pairs, logits)
        if merged is not None:
            compare_wholes(observed, wholes, members.columns[members.hosts], logits, pairs)
        return logits, slots, pairs

    def may_merge(self, slots: Slots, rows: Indices, unmatched: Indices, missed: NDArray[np.int64]) -> bool:
        """Return whether a box may be that of two tracks, where none is hidden; arguments as of `find_signs`."""
        observed, outliers = self._observed[: self._n_observed], self._statistics["size_outliers"][0]
        counts = self.merging.counts
        return merged_boxes.find_signs(
            self._expected, self._kept, self._n_kept, observed, slots, rows, unmatched, missed, outliers, counts
        ) > 0  # fmt: skip

    def frame(self) -> Frame:
        """Return the tracks and observations that `compare` was called for, as views."""
        m = self._n_kept
        outliers = float(self._statistics["size_outliers"][0])
        return Frame(
            self._kept[:m], self._predicted[:m], self._expected[:m], self._observed[: self._n_observed], outliers
        )

    def jumps(self, slots: Slots, rows: Indices) -> NDArray[np.float64]:
        """Return (k,) how much likelier a burst is than the usual movement; arguments as of `Scorer.jumps`."""
        ratios = np.ones(len(slots))
        if self._model >= 0:
            kept = self._kept[: self._n_kept]
            predict.rate_jumps(self._observed, self._expected, kept, self._statistics, slots, rows, ratios)
        return ratios

    def follow(self, hidden: Slots, rows: Indices, hosts: Slots, frame_index: int) -> None:
        """Update tracks that are in one box with others, and leave them out of the current frame.

        Args:
            hidden: (h,) slots.
            rows: (h,) their boxes.
            hosts: (h,) the slot that each box was matched with.
            frame_index: the frame's number.
        """
        frame = self.frame()
        of, first = np.unique(hosts, return_index=True)
        order = np.argsort(np.concatenate([of, hosts]), kind="stable")
        slots = np.concatenate([of, hidden])[order]
        rows = np.concatenate([rows[first], rows])[order]
        columns = frame.columns(slots)
        groups = np.searchsorted(of, np.concatenate([of, hosts])[order])
        merged_boxes.follow(
            self._tracks, frame.predicted, self._statistics, self._model, frame.observed, slots, columns, groups, rows,
            frame_index, self.merging.confusion, self.merging.covered,
        )  # fmt: skip
        np.subtract.at(self._exposed, self._kinds[columns], 1.0)
        kept = np.ones(self._n_kept, bool)
        kept[columns] = False
        self._n_kept = int(kept.sum())
        for array in (self._kept, self._kinds, self._predicted, self._expected):
            array[: self._n_kept] = array[: len(kept)][kept]

    def doubtful(self, instances: Instances, rows: Indices, frame_index: int) -> NDArray[np.bool_] | None:
        """Return which of the unmatched (r,) rows are probably false detections, by their score; None: none is.

        A row that continues a doubtful detection of the frame before is not.
        """
        if not (self.use_scores and instances.scored and self._scores.seen):
            return None
        logits = self._compare_doubtful(instances, rows, frame_index)
        return self._scores.doubt(instances.scores, rows, logits, AGAIN)

    def _compare_doubtful(self, instances: Instances, rows: Indices, frame_index: int) -> NDArray[np.float32]:
        """Return the logits (r, c) of rows against the doubtful detections of the frame before."""
        c = len(self._doubtful)
        logits = np.empty((len(rows), c), np.float32)
        if not c:
            return logits
        observed = self._observe_once(instances)
        expected = np.empty(c, EXPECTED)
        quarters = kalman.QUARTERS / self.indices_per_step(frame_index)
        predict.predict(
            self._doubtful, np.arange(c), frame_index, quarters, _TIME_STEPS, self._statistics, False,
            np.empty(c, np.intp), np.empty(c, np.intp), np.empty(c, TRACK), expected, np.empty(N_CLASSES),
        )  # fmt: skip
        predict.compare(observed[rows], expected, logits)
        return logits

    def update(self, slots: Slots, rows: Indices, instances: Instances, frame_index: int) -> None:
        """Update the matched tracks; does nothing unless `compare` was called for this frame.

        Args:
            slots: (m,) of the matched tracks.
            rows: (≥ m,) of their instances, and behind them those that begin a track or are doubtful.
            instances: (n).
            frame_index: the frame's number.
        """
        if self._model < 0:
            return
        columns, bursts = np.empty(len(slots), np.intp), np.empty(len(slots))
        births, missed = predict.explain(
            self._observed, self._expected, self._kept, self._kinds, self._n_kept, slots, rows, columns, bursts,
            self._returned, self._unowned,
        )  # fmt: skip
        if instances.scored and self.use_scores:
            self._scores.learn(
                instances.scores, rows, self._unowned, slots, columns, self._kept, self._n_kept, self._kinds,
                self._statistics, len(self._tracks),
            )  # fmt: skip
        self.closed = update.update(
            self._tracks, self._statistics, self._model, self._predicted, self._observed, slots, rows, columns, bursts,
            births, missed, self._exposed, self._returned, frame_index, self._per_step, self._scratch,
        )  # fmt: skip

    def begin(self, slots: Slots, rows: Indices, instances: Instances, frame_index: int) -> None:
        """Begin tracks in (m,) slots with the instances in (m,) rows."""
        top = int(slots.max()) + 1
        if top > len(self._tracks):
            self._tracks = _grown(self._tracks, top)
        update.begin(self._tracks, self._statistics, slots, self._observe_once(instances), rows, frame_index)
        if self._scores.seen or instances.scored:
            self._scores.begin(slots, rows, instances.scores, len(self._tracks))

    def doubt(self, rows: Indices, instances: Instances, frame_index: int) -> None:
        """Remember the (c,) rows that are doubtful in this frame, in place of those of the frame before."""
        self._doubtful, self.has_doubtful = np.zeros(len(rows), TRACK), len(rows) > 0
        if self.has_doubtful:
            observed, slots = self._observe_once(instances), np.arange(len(rows))
            update.begin(self._doubtful, self._statistics, slots, observed, rows, frame_index)
        self._scores.remember_doubtful(instances.scores, rows)

    def end_frame(self, frame_index: int) -> None:
        """End the current frame."""
        self._model = -1
        if self._last_frame is not None and frame_index > self._last_frame:
            difference = frame_index - self._last_frame
            self._stride = min(self._stride, difference) if self._stride else difference
        self._last_frame = frame_index

    def indices_per_step(self, frame_index: int) -> int:
        """Frame indices per time step."""
        return self._stride or (max(frame_index - self._last_frame, 1) if self._last_frame is not None else 1)

    def _observe(self, instances: Instances) -> NDArray[np.float64]:
        observed = self._observed[: len(instances)]
        predict.observe(instances.centres, instances.extents, observed)
        return observed

    def _observe_once(self, instances: Instances) -> NDArray[np.float64]:
        """The measurements of this frame, which `compare` has made if it was called."""
        if self._model >= 0:
            return self._observed[: len(instances)]
        self._reserve(len(instances), 0)
        return self._observe(instances)

    def _reserve(self, n: int, m: int) -> None:
        if n > len(self._observed):
            capacity = max(n, 2 * len(self._observed), 16)
            self._observed, self._unowned = np.zeros((capacity, 4)), np.zeros(capacity)
        if m > len(self._kept):
            capacity = max(m, 2 * len(self._kept), 16)
            self._kept, self._kinds = np.zeros(capacity, np.intp), np.zeros(capacity, np.intp)
            self._predicted, self._expected = np.zeros(capacity, TRACK), np.zeros(capacity, EXPECTED)

    def snapshot(self, slots: Slots) -> State:
        """The statistics, and the tracks in these slots. The names are part of the journal's format."""
        state: State = {
            "learnt": _numbers(self._statistics)[0].copy(),
            "states": np.ascontiguousarray(_numbers(self._tracks[slots]).T),
            "stride": self._stride,
            "last_frame": self._last_frame,
        }
        if self.merging.is_used:
            state["merging"] = self.merging.snapshot(slots)
        if self._scores.seen:
            state["scores"] = self._scores.snapshot(slots)
            state["doubtful"] = _numbers(self._doubtful).copy()
        return state

    def restore(self, state: State, slots: Slots) -> None:
        """Replace the state by that of a snapshot."""
        learnt = np.asarray(state["learnt"])
        self._statistics = update.initial_statistics()
        known = len(learnt) if len(learnt) in (_N_STATISTICS, _BEFORE_CLOSED) else _BEFORE_BIRTHS
        _numbers(self._statistics)[0, :known] = learnt[:known]
        if known < _N_STATISTICS:
            self._statistics["first_births"] = self._statistics["open_births"] = self._statistics["births"]
        self.closed = float(self._statistics["closed"][0])
        self._tracks = np.zeros(int(slots.max(initial=-1)) + 1, TRACK)
        states = np.asarray(state["states"]).T
        _numbers(self._tracks)[slots, : states.shape[1]] = states  # earlier versions have fewer numbers
        self._stride = int(state["stride"])
        self._last_frame = None if state["last_frame"] is None else int(state["last_frame"])
        self._model = -1
        self.merging = Merging()
        if "merging" in state:  # not in snapshots of earlier versions
            self.merging.restore(state["merging"], slots)
        self._scores, self._doubtful = DetectorScores(), np.zeros(0, TRACK)
        if "scores" in state:  # not in snapshots of earlier versions, and of streams without scores
            self._scores.restore(state["scores"], slots)
            self._doubtful = np.zeros(len(state["doubtful"]), TRACK)
            _numbers(self._doubtful)[:] = state["doubtful"]
        self.has_doubtful = len(self._doubtful) > 0


def _near_pairs(observed: NDArray[np.float64], expected: NDArray[np.void]) -> Indices:
    """The pairs whose logit can be above the gate, (2, K), by row and then by column."""
    by_x = np.argsort(observed[:, 0], kind="stable")
    starts = np.empty(len(observed) + 1, np.intp)
    capacity = 8 * len(observed)
    while True:
        pairs = np.empty((2, capacity), np.intp)
        count = predict.near_pairs(observed, by_x, expected, pairs, starts, max(MAX_PAIRS, capacity))
        if count <= capacity:
            return np.ascontiguousarray(pairs[:, :count])
        if count > MAX_PAIRS:
            return nearest_pairs(observed, expected["centre"], MAX_COLUMNS)
        capacity = count


def _grown(tracks: NDArray[np.void], needed: int) -> NDArray[np.void]:
    grown = np.zeros(max(16, 2 * len(tracks), needed), TRACK)
    grown[: len(tracks)] = tracks
    return grown


def _numbers(records: NDArray[np.void]) -> NDArray[Any]:
    """A view of records as rows of float64."""
    return records.view(np.float64).reshape(len(records), records.dtype.itemsize // 8)
