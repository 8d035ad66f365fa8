"""From track ids per frame to Cell Tracking Challenge tracks: without gaps, each with its frames and its parent.

The challenge's tracks are contiguous. A track with a gap is two of them, and the first is the parent of the second.
So a parent with one child is a gap, and a parent with two or more children is a division.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trackd_client.detections import IntArray


class Tracklet(NamedTuple):
    """A row of `res_track.txt`."""

    label: int  # from 1
    begin: int  # the first frame
    end: int  # the last frame
    parent: int  # label, 0 where there is none


@dataclass(frozen=True, slots=True)
class Tracklets:
    """The rows by label, and each frame's labels."""

    rows: list[Tracklet]
    labels: list[dict[int, int]]  # by frame: track id -> label

    @classmethod
    def of(
        cls, frames: Sequence[tuple[int, IntArray]], parents: Mapping[int, int], *, first_label: int = 1
    ) -> Tracklets:
        """Cut tracks where they have gaps.

        Args:
            frames: (frame number, ids) by rising number; ids below 0 do not count.
            parents: child id -> parent id. A parent that is still present where its child begins does not count.
            first_label: is added to an id to make its first label: 1 where ids count from 0.
        """
        latest_of: dict[int, Tracklet] = {}  # id -> its latest tracklet
        rows: list[Tracklet] = []
        labels: list[dict[int, int]] = []
        unused_label = 1 + max((int(ids.max(initial=-1)) for _, ids in frames), default=0) + first_label
        for number, ids in frames:
            here: dict[int, int] = {}
            present = [track_id for track_id in ids.tolist() if track_id >= 0]
            for track_id in present:
                latest = latest_of.get(track_id)
                if latest is None:
                    parent_id = parents.get(track_id, -1)
                    parent = latest_of.get(parent_id)
                    label = parent.label if parent is not None and parent_id not in present else 0
                    latest = Tracklet(track_id + first_label, number, number, label)
                elif latest.end < number - 1:
                    rows.append(latest)
                    latest = Tracklet(unused_label, number, number, latest.label)
                    unused_label += 1
                latest_of[track_id] = latest._replace(end=number)
                here[track_id] = latest.label
            labels.append(here)
        return cls(sorted([*rows, *latest_of.values()]), labels)
