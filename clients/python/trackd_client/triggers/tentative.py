"""Settlements without their tentative tracks: each track begins when it becomes active."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trackd_client.protocol import Tracks


class WithoutTentative:
    """Leaves tentative tracks out of the settlements of one epoch of a stream, which are given in their order.

    A track is in the lists and arrays from the frame on in which it is active, and is new in that frame. One that ends
    before is in none of them.
    """

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}  # by id of a tentative track: the track that divided into it, -1 for none

    def of(self, tracks: Tracks) -> Tracks:
        """Return the next settlement without its tentative tracks; the same one if there are none."""
        if not tracks.tentative_tracks and not self._parents:
            return tracks
        ids = tracks.track_ids if tracks.track_ids is not None else np.empty(0, np.int32)
        tentative = set(tracks.tentative_tracks)
        parents = dict(zip(tracks.new_tracks, tracks.parents or [-1] * len(tracks.new_tracks), strict=True))
        began = {track: parents.get(track, -1) for track in tentative - self._parents.keys()}
        known = {**self._parents, **began}
        active = sorted((known.keys() - tentative) & set(ids.tolist()))
        new = {track: parent for track, parent in parents.items() if track not in known}
        new |= {track: known.pop(track) for track in active}
        out = {*known, *active}  # of the other lists: a track that is new is not found again
        self._parents = {track: parent for track, parent in known.items() if track not in tracks.ended_tracks}
        rows = ~np.isin(ids, list(known))
        kept: dict[str, Any] = {
            name: array[rows]
            for name in ("track_ids", "track_scores", "boxes", "keypoints", "scores")
            if (array := getattr(tracks, name)) is not None
        }
        row_of = (np.cumsum(rows) - 1).tolist()
        merged = [
            (track, row_of[row])
            for track, row in zip(tracks.merged_tracks, tracks.merged_rows, strict=True)
            if rows[row] and track not in known
        ]
        kept["merged_tracks"] = tuple(track for track, _ in merged)
        kept["merged_rows"] = tuple(row for _, row in merged)
        for name in ("lost_tracks", "found_tracks", "ended_tracks", "restored_tracks"):
            kept[name] = tuple(track for track in getattr(tracks, name) if track not in out)
        return replace(
            tracks,
            **kept,
            names=tuple(name for name, is_in in zip(tracks.names, rows.tolist(), strict=False) if is_in),  # maybe empty
            new_tracks=tuple(new),
            parents=tuple(new.values()) if any(parent >= 0 for parent in new.values()) else (),
            tentative_tracks=(),
        )
