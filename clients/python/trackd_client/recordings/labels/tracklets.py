"""A graph of spots as linear tracklets: one identity from a track's begin or division to its next division or end.

Letters: s spots, m links.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Links from a spot to a later one."""

    sources: NDArray[np.int64]  # (m,) the earlier spot's row
    targets: NDArray[np.int64]  # (m,) the later spot's row
    tracks: NDArray[np.int64]  # (m,) the track of each link

    def __len__(self) -> int:
        return len(self.sources)


def linear_tracklets(
    frame_index: NDArray[np.int64], points: NDArray[np.float64], links: Links, highest: int = -1
) -> tuple[NDArray[np.int64], dict[int, int]]:
    """The identity of each spot, and the parents.

    A link over several frames is a gap in a tracklet. If a spot has several successors, each begins a tracklet whose
    parent is the spot's tracklet. If several spots lead to one, the nearest one's tracklet continues and the others
    end. A track's first tracklet keeps the track's number; further ones get numbers above the highest.

    Args:
        frame_index: (s,) rises.
        points: (s, 2).
        links: links between rows of both arrays, each to a later frame.
        highest: the highest track number in use, including tracks of a single spot, which have no link.

    Returns:
        The identities (s,), -1 for a spot without a link, and child → parent.
    """
    successors, predecessor, track_of = _forest(points, links)
    ids = np.full(len(frame_index), -1, np.int64)
    lineage: dict[int, int] = {}
    taken: set[int] = set()
    next_id = int(links.tracks.max(initial=highest)) + 1
    for row in sorted(track_of):  # rows rise with the frame, so a predecessor has its identity already
        before = predecessor.get(row)
        if before is not None and len(successors[before]) == 1:
            ids[row] = ids[before]
            continue
        track = track_of[row]
        if before is None and track not in taken:
            ids[row] = track
            taken.add(track)
        else:
            ids[row] = next_id
            next_id += 1
        if before is not None:
            lineage[int(ids[row])] = int(ids[before])
    return ids, lineage


def _forest(points: NDArray[np.float64], links: Links) -> tuple[dict[int, list[int]], dict[int, int], dict[int, int]]:
    """Successors and the one predecessor of each row, and the track of each row that has a link."""
    incoming: dict[int, set[int]] = defaultdict(set)
    track_of: dict[int, int] = {}
    for source, target, track in zip(
        links.sources.tolist(), links.targets.tolist(), links.tracks.tolist(), strict=True
    ):
        incoming[target].add(source)
        track_of[source] = track_of[target] = track
    successors: dict[int, list[int]] = defaultdict(list)
    predecessor: dict[int, int] = {}
    for target, sources in incoming.items():
        nearest = min(sources, key=lambda row: (float(((points[row] - points[target]) ** 2).sum()), row))
        predecessor[target] = nearest
        successors[nearest].append(target)
    return successors, predecessor, track_of
