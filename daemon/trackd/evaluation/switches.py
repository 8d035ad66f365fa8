"""DREEM's `sw_cnt`, and where the switches are.

An identity's detections are followed in their order: each whose track id differs from the one of the detection
before it is a switch. As in DREEM, -1 (no track) is an id like any other, so a dropped detection counts on the way
out and on the way back; CLEAR's id switches, beside it in the table, leave those out. Detections without an identity
do not count (DREEM takes them all for one animal, "-1").
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
    """Adds up frame by frame."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self.switches: list[Switch] = []

    def add(self, frame_index: int, gt_ids: IntArray, track_ids: IntArray) -> None:
        """A frame's detections, both (n,), -1 for none."""
        for gt_id, track_id in zip(gt_ids.tolist(), track_ids.tolist(), strict=True):
            if gt_id < 0:
                continue
            before = self._last.get(gt_id, track_id)
            if before != track_id:
                self.switches.append(Switch(frame_index, gt_id, before, track_id))
            self._last[gt_id] = track_id
