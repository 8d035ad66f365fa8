"""The result of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class Assignment:
    """The result of one frame: the track of each instance, and what changed in the tracks.

    The field names are those of `Tracks` on the wire and of the journal (engine/outcome.py).
    """

    track_ids: NDArray[np.int32]  # (n,) −1: not assigned
    track_scores: NDArray[np.float32]  # (n,) 0 to 1, NaN where new or not assigned
    new_tracks: tuple[int, ...] = ()
    lost_tracks: tuple[int, ...] = ()  # not seen in this frame, but in the one before
    found_tracks: tuple[int, ...] = ()  # seen again after a gap
    ended_tracks: tuple[int, ...] = ()  # no other track ever has their ids
    flags: tuple[str, ...] = ()  # of low_confidence, forced, out_of_reach, low_score, invalid_detection, evicted
    parents: tuple[int, ...] = ()  # parallel to new_tracks: the track that divided, −1 for none; empty if none divided
    names: tuple[str | None, ...] = ()  # parallel to track_ids, None for none; empty if no track of the frame has one
    corrections: tuple[dict[str, Any], ...] = ()  # those since the last frame, as `Applied.as_map` gives them
    tentative_tracks: tuple[int, ...] = ()  # ascending: those of track_ids that were seen in too few frames so far
    identity_events: tuple[dict[str, Any], ...] = ()  # what was found of the animals' identities up to this frame
    merged_tracks: tuple[int, ...] = ()  # tracks that are in the box of another one
    merged_rows: tuple[int, ...] = ()  # parallel to merged_tracks: the instance
    restored_tracks: tuple[int, ...] = ()  # ended before, and live again by an undo; lost where not in track_ids
