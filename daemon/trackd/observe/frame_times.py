"""The identity and the times of a settled frame, without its images and arrays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)  # made for each frame; a frozen dataclass takes three times as long to construct
class FrameTimes:
    """One settled frame: its identity, its end, and its times in monotonic ns."""

    stream: str
    epoch: int
    seq: int
    frame_index: int
    traceparent: str | None
    status: str
    reason: str | None
    instances: int
    received_ns: int
    taken_ns: int
    encoded_ns: int
    scored_ns: int
    associated_ns: int
    stored_ns: int | None
    published_ns: int
