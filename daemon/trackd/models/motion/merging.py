"""Merges and separations: the motion scorer's tracks that are in one box with others.

A merge is evident from the box: a track is missing, and a box that it meets has grown to the hull of both. While they
are in it, each track is followed by the edges of the box (merged_boxes.py); its size and the stream's statistics do not
change. When there are more boxes than one again, place, size and appearance decide which track is in which, all
together. The filters may have confused the tracks while they were at one place: with that probability the place says
only that a track is somewhere in the box.

Letters: n instances, M predicted tracks, S slots, k members of g groups of tracks in one box, p boxes of a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd.models.motion import merged_boxes, predict
from trackd.models.motion.predict import CAUTION
from trackd.models.motion.records import EXPECTED
from trackd.tracking.linear_assignment import best_pairs
from trackd.tracking.merging import Merged
from trackd.tracking.scorer import Matches
from trackd.tracking.window import Slots, State

Indices = NDArray[np.intp]

FIRST_SHARE, FIRST_WEIGHT = 0.03, 3.0  # of missing tracks that are in the box that they meet
MAX_COVERED = 25  # frames in which a box may have the size of one track before the others count as lost
MAX_WITHOUT_BOX = 3  # frames in a row without the box of a group


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The tracks and observations of the current frame, as views of a `FilterBank`'s arrays."""

    slots: Slots  # (M,) ascending
    predicted: NDArray[np.void]  # (M,) `TRACK`
    expected: NDArray[np.void]  # (M,) `EXPECTED`
    observed: NDArray[np.float64]  # (n, 4)
    outliers: float  # share of sizes that are unrelated to their track's

    def columns(self, slots: Slots) -> Indices:
        """Return the indices of tracks that were predicted."""
        return np.searchsorted(self.slots, slots)

    def has(self, slots: Slots) -> NDArray[np.bool_]:
        """Return for each of these tracks whether it was predicted."""
        at = np.minimum(self.columns(slots), max(len(self.slots) - 1, 0))
        return self.slots[at] == slots if len(self.slots) else np.zeros(len(slots), bool)


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """The tracks that are in one box with others, by group; the host is the first of each."""

    slots: Slots  # (k,)
    columns: Indices  # (k,) in the frame's tracks
    groups: Indices  # (k,) ascending from 0
    hosts: Indices  # (g,) their positions among the members

    @classmethod
    def of(cls, merged: Merged, frame: Frame) -> Members:
        """Return the members of a frame; all must have been predicted."""
        slots, hosts = merged.members()
        changes = np.diff(hosts, prepend=-1) != 0
        return cls(slots, frame.columns(slots), np.cumsum(changes) - 1, np.flatnonzero(changes))


def widened(frame: Frame, members: Members) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return what is expected (M,) if each member is anywhere in its group's box, and the expected boxes (g,)."""
    expected, wholes = frame.expected.copy(), np.zeros(len(members.hosts), EXPECTED)
    merged_boxes.widen(expected, members.columns, members.groups, len(members.hosts), wholes)
    return expected, wholes


def compare_wholes(
    observed: NDArray[np.float64],
    wholes: NDArray[np.void],
    hosts: Indices,
    logits: NDArray[np.float32],
    pairs: Indices | None,
) -> None:
    """Raise the logits of the hosts to those of their groups' boxes.

    Args:
        observed: (n, 4).
        wholes: (g,) the expected boxes.
        hosts: (g,) columns.
        logits: (n, M), or (K,) with pairs; written.
        pairs: (2, K) rows and columns, or None.
    """
    if pairs is None:
        table = np.empty((len(observed), len(hosts)), np.float32)
        predict.compare(observed, wholes, table)
        logits[:, hosts] = np.maximum(logits[:, hosts], table)
        return
    of_host = np.flatnonzero(np.isin(pairs[1], hosts))
    own = np.stack([pairs[0, of_host], np.searchsorted(hosts, pairs[1, of_host])])  # hosts are in order of their slots
    some = np.empty(len(of_host), np.float32)
    predict.compare_pairs(observed, wholes, own, some)
    logits[of_host] = np.maximum(logits[of_host], some)


class Merging:
    """How often missing tracks are in the boxes that they meet, and the members' states beside their filters."""

    def __init__(self) -> None:
        # Missing tracks that met a box, and the expected number of those that were in it.
        self.counts = np.array([FIRST_WEIGHT, FIRST_SHARE * FIRST_WEIGHT])
        self.confusion = np.zeros(0)  # (S,) probability that a member's place is that of another one
        self.covered = np.zeros(0)  # (S,) frames in a row in which the box had the size of one member

    @property
    def is_used(self) -> bool:
        """Whether a missing track has met a box yet."""
        return bool(self.counts[0] != FIRST_WEIGHT)

    # --- merges ---

    def find(self, frame: Frame, matches: Matches, merged: Merged, gone: Slots) -> None:
        """Put the missing tracks that are in a box with a matched one, or with each other, into it."""
        n, m = len(frame.observed), len(frame.slots)
        gone = frame.columns(gone[frame.has(gone)])
        if not len(gone) or not n or n * len(gone) > merged_boxes.MAX_TESTS:
            return
        members = Members.of(merged, frame)
        matched = np.full(n, -2, np.intp)
        matched[matches.unmatched] = -1
        matched[matches.rows] = frame.columns(matches.slots)
        hosts, rows, posterior = np.full(m, -1, np.intp), np.full(m, -1, np.intp), np.zeros(m)
        found = merged_boxes.find_merges(
            frame.expected, frame.observed, members.columns, members.groups, gone, matched,
            math.log(self.counts[1] / (self.counts[0] - self.counts[1])), frame.outliers, hosts, rows, posterior,
        )  # fmt: skip
        if merged.count:  # else `find_signs` has counted them
            merged_boxes.count(posterior[gone], self.counts)
        if not found:
            return
        hidden = np.flatnonzero((hosts >= 0) & (hosts != np.arange(m)))
        begun = np.flatnonzero(hosts == np.arange(m))  # missing tracks whose box was matched with none
        if len(begun):
            matches.add(rows[begun], frame.slots[begun], np.full(len(begun), 0.5, np.float32))  # unsure
        self._reserve(int(frame.slots[-1]) + 1)
        both = np.concatenate([frame.slots[hidden], frame.slots[hosts[hidden]]])
        new = both[~merged.are_members(both)]
        self.confusion[new] = self.covered[new] = 0.0
        merged.hide(frame.slots[hidden], frame.slots[hosts[hidden]])

    # --- separations ---

    def separate(self, frame: Frame, matches: Matches, merged: Merged, ratios: NDArray[np.float32] | None) -> None:
        """Decide which members are in which boxes, where the association matched a group with more than one.

        Args:
            frame: the current one.
            matches: the association's; the hosts are the matched ones of the members after it.
            merged: changed where groups come apart.
            ratios: (n, k) log likelihood ratios of the members' appearances; None without images.
        """
        members = Members.of(merged, frame)
        row_of = np.full(int(frame.slots[-1]) + 1, -1, np.intp)
        row_of[matches.slots] = matches.rows
        n_boxes = np.bincount(members.groups, row_of[members.slots] >= 0)
        wide = None
        in_order = (n_boxes == 1) & (row_of[members.slots[members.hosts]] >= 0)  # the box is in the host's row
        for group in np.flatnonzero((n_boxes > 0) & ~in_order).tolist():
            at = np.flatnonzero(members.groups == group)
            slots = members.slots[at]
            rows = np.sort(row_of[slots[row_of[slots] >= 0]])
            if len(rows) == 1:
                _exchange(matches, rows, slots[:1])
                continue
            wide = widened(frame, members) if wide is None else wide
            columns, observed = members.columns[at], np.ascontiguousarray(frame.observed[rows])
            near, anywhere = _logits(observed, frame.expected[columns]), _logits(observed, wide[0][columns])
            confused = self.confusion[slots]
            with np.errstate(divide="ignore"):
                table = np.logaddexp(near + np.log1p(-confused), anywhere + np.log(confused))
            if ratios is not None:
                table += ratios[rows][:, at]
            self._part(frame, matches, merged, slots, columns, rows, table)

    def _part(
        self,
        frame: Frame,
        matches: Matches,
        merged: Merged,
        slots: Slots,
        columns: Indices,
        rows: Indices,
        table: NDArray[np.float64],
    ) -> None:
        """Give the (p,) boxes of a group to its members, by log odds (p, k); or one to all, if the others are new."""
        sizes = np.exp(frame.observed[rows, 2] + frame.observed[rows, 3])
        single = float(frame.predicted["area"][columns].mean())
        places = np.ones(len(rows), np.intp)
        for _ in range(len(slots) - len(rows)):
            places[np.argmax(sizes / (places * single))] += 1
        boxes = np.repeat(np.arange(len(rows)), places)
        taken, members = best_pairs((table[boxes] - table.min() + 1.0).astype(np.float32))
        order = np.lexsort((members, boxes[taken]))  # a host stays the host of the box that it is in
        boxes, chosen = boxes[taken[order]], members[order]
        first = np.flatnonzero(np.diff(boxes, prepend=-1))
        gains = np.empty(len(rows))
        if places.max() == 1:
            one = np.ascontiguousarray(frame.observed[rows])
            merged_boxes.compare_with_hull(frame.expected[columns], one, chosen, frame.outliers, gains)
            odds = table[boxes, chosen]
            gains -= odds.sum() - odds
        if places.max() == 1 and gains.max() > 0:
            kept = int(gains.argmax())
            _exchange(matches, rows[[kept]], slots[:1])
            matches.free(np.isin(matches.rows, np.delete(rows, kept)))
            return
        merged.release(slots)
        _exchange(matches, rows, slots[chosen[first]], _certainty(table, boxes[first], chosen[first]))
        hosts = slots[chosen[first]][boxes]
        inside = hosts != slots[chosen]
        if inside.any():
            merged.hide(slots[chosen[inside]], hosts[inside])

    # --- frames ---

    def end(self, merged: Merged, matches: Matches, missed: NDArray[np.int64]) -> None:
        """End the merges whose boxes have the size of one track, or were missing, for too many frames."""
        hidden = merged.hidden
        hosts = merged.hosts[hidden]
        is_missing = (missed[hosts] + 1 >= MAX_WITHOUT_BOX) & ~np.isin(hosts, matches.slots)
        over = hidden[is_missing | (self.covered[hidden] > MAX_COVERED)]
        if len(over):
            self.counts[1] = max(self.counts[1] - len(over), FIRST_SHARE)  # they were none
            merged.release(over)

    def _reserve(self, capacity: int) -> None:
        if capacity > len(self.confusion):
            more = max(capacity, 2 * len(self.confusion), 16) - len(self.confusion)
            self.confusion = np.concatenate([self.confusion, np.zeros(more)])
            self.covered = np.concatenate([self.covered, np.zeros(more)])

    def snapshot(self, slots: Slots) -> State:
        self._reserve(int(slots.max(initial=-1)) + 1)
        return {
            "counts": self.counts.copy(),
            "confusion": self.confusion[slots],
            "covered": self.covered[slots],
        }

    def restore(self, state: State, slots: Slots) -> None:
        self.counts = np.array(state["counts"], np.float64)
        self._reserve(int(slots.max(initial=-1)) + 1)
        self.confusion[slots], self.covered[slots] = state["confusion"], state["covered"]


def _logits(observed: NDArray[np.float64], expected: NDArray[np.void]) -> NDArray[np.float64]:
    table = np.empty((len(observed), len(expected)), np.float32)
    predict.compare(observed, np.ascontiguousarray(expected), table)
    return table.astype(np.float64) + CAUTION


def _certainty(table: NDArray[np.float64], boxes: Indices, chosen: Indices) -> NDArray[np.float32]:
    """The probability (p,) of each box's member, beside an exchange with that of another box."""
    own = table[boxes, chosen]
    losses = own[:, None] + own - table[boxes][:, chosen] - table[boxes][:, chosen].T
    np.fill_diagonal(losses, 0.0)
    return np.asarray(1.0 / np.exp(-losses).sum(axis=1), np.float32)


def _exchange(matches: Matches, rows: Indices, slots: Slots, probabilities: NDArray[np.float32] | None = None) -> None:
    """Match these rows, which are matched, with these tracks."""
    at = np.searchsorted(matches.rows, rows)
    matches.slots = matches.slots.copy()
    matches.slots[at] = slots
    if probabilities is not None:
        matches.probabilities = matches.probabilities.copy()
        matches.probabilities[at] = probabilities
