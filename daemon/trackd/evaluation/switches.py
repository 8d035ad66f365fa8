"""DREEM's `sw_cnt`, and the list of the switches.

A detection is a switch where its track id differs from that of the previous detection of the same identity. As in
DREEM, -1 (no track) is an id like any other, so an unassigned detection gives two switches: one to -1, and one back.
CLEAR's id switches, in the same table, leave these out. Detections without an identity do not count (DREEM counts them
all as one animal, "-1").
"""

from __future__ import annotations

from dataclasses import dataclass

from trackd_client.detections import IntArray


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of an identity's track id."""

    frame_index: int
    gt_id: int
    before: int  # track id; -1: none
    after: int


class SwitchCount:
    """Counts frame by frame."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self.switches: list[Switch] = []

    def add(self, frame_index: int, gt_ids: IntArray, track_ids: IntArray) -> None:
        """Add a frame's detections, both (n,), -1 for none."""
        for gt_id, track_id in zip(gt_ids.tolist(), track_ids.tolist(), strict=True):
            if gt_id < 0:
                continue
            before = self._last.get(gt_id, track_id)
            if before != track_id:
                self.switches.append(Switch(frame_index, gt_id, before, track_id))
            self._last[gt_id] = track_id
