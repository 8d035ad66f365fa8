"""A journal record as the settlement that was published."""

from __future__ import annotations

from dataclasses import replace

from trackd.store.records import FrameRecord
from trackd_client.protocol import Status, Tracks


def tracks_of_record(record: FrameRecord) -> Tracks:
    """The settlement as it was published, but for its timing."""
    bare = Tracks(
        record.stream, record.epoch, record.seq, record.frame_index, record.t_ns, Status(record.status),
        reason=record.reason, replayed=True,
    )  # fmt: skip
    if bare.status is not Status.TRACKED:
        return bare
    body = record.body
    return replace(
        bare,
        track_ids=body["track_ids"],
        track_scores=body["track_scores"],
        boxes=body["boxes"] if body.get("extents") is None else body["extents"],
        keypoints=body.get("keypoints"),
        scores=body.get("scores"),
        new_tracks=tuple(body.get("new_tracks", ())),
        parents=tuple(body.get("parents", ())),
        lost_tracks=tuple(body.get("lost_tracks", ())),
        found_tracks=tuple(body.get("found_tracks", ())),
        ended_tracks=tuple(body.get("ended_tracks", ())),
        flags=tuple(body.get("flags", ())),
    )
