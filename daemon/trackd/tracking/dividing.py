"""The tracks of a frame that divide: each ends, and its children begin.

Letters: M live tracks, k possible divisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.division import Division, find_divisions
from trackd.tracking.division_rate import DivisionRate
from trackd.tracking.forced import nearness
from trackd.tracking.instances import Instances
from trackd.tracking.lifecycle import Lifecycle
from trackd.tracking.scorer import Matches, Scorer
from trackd.tracking.window import RollingWindow, Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig


class Dividing:
    """Says which tracks of one tracker divide, by its configuration, or by what is learnt of the stream.

    Args:
        window: of the tracker.
        lifecycle: of the tracker.
        scorer: of the tracker.
    """

    def __init__(self, window: RollingWindow, lifecycle: Lifecycle, scorer: Scorer) -> None:
        self._window = window
        self._lifecycle = lifecycle
        self._scorer = scorer
        self._max_tracks: int | None = None
        self._is_learnt = False
        self.is_on = False  # whether tracks may divide
        self.rate = DivisionRate()

    def configure(self, config: TrackerConfig) -> None:
        """Use another configuration from the next frame on."""
        self._max_tracks = config.max_tracks
        self._is_learnt = config.divisions == "auto" and self._scorer.learns_births and config.max_tracks is None
        self.is_on = config.divisions is True or self._is_learnt

    def divide(self, matches: Matches, instances: Instances, together: Slots) -> tuple[dict[int, int], Slots]:
        """Make the children of the tracks that have divided unmatched rows, which begin tracks.

        Args:
            matches: of the frame, changed.
            instances: its instances.
            together: tracks that were in one box with others, in the frame before or now.

        Returns:
            The parent's id by the child's row, and the slots of the tracks that have divided, ascending.
        """
        life, window, extents = self._lifecycle, self._window, instances.extents
        live, none = window.placed, window.live[:0]
        if self._is_learnt:
            if instances.keypoints is not None and instances.keypoints.shape[1] > 1:  # a pose: it does not divide
                return {}, none
            if not self.rate.may_divide(live, life.missed, life.extents, matches, extents):
                return {}, none
        limit = window.max_slots if self._max_tracks is None else self._max_tracks
        active = live[~life.lost[live]]
        if len(together):  # two objects in one box do not divide, and come apart as they are
            active = active[~np.isin(active, together)]
        row_of = np.full(window.capacity, -1, np.intp)
        row_of[matches.slots] = matches.rows
        before, own = life.extents[active], row_of[active]
        found = find_divisions(before, own, matches.unmatched, extents)
        if self._is_learnt:
            jumps = self._jumps(found, active, own)
            found = self.rate.likely(found, before, extents, len(matches.unmatched), jumps)
        found = found[: max(limit - len(live), 0)]  # each division needs one more slot
        if not found:
            return {}, none
        slots = active[[each.parent for each in found]]
        parents = {
            row: int(track_id) for each, track_id in zip(found, window.ids[slots], strict=True) for row in each.children
        }
        matches.free(np.isin(matches.slots, slots))
        return parents, np.sort(slots)

    def _jumps(self, found: list[Division], active: Slots, own: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return of each possible division how much likelier its track's own movement is as a jump than as usual.

        Where a missing track may have been at its place, both can be animals that come apart: 1.
        """
        if not found:
            return np.ones(0)
        life, live = self._lifecycle, self._window.placed
        parents = [each.parent for each in found]
        slots, rows = active[parents], own[parents].copy()
        rows[(np.array([each.children for each in found]) != rows[:, None]).all(axis=1)] = -1
        missing = live[life.missed[live] > 0]
        if len(missing):
            middles = 0.5 * (life.extents[slots, :2] + life.extents[slots, 2:])
            rows[nearness(middles, life.extents[missing], life.missed[missing] + 1).any(axis=1)] = -1
        return self._scorer.jumps(slots, rows)
