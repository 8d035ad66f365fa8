"""Upper limits of a message, checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits of one message. The defaults are the daemon's."""

    header_bytes: int = 65_536
    header_items: int = 1024  # of each map and list in a header
    message_bytes: int = 134_217_728
    parts: int = 16
    image_pixels: int = 67_108_864
    instances: int = 4096
    keypoints: int = 256
    image_bytes: int = 134_217_728


DEFAULT_LIMITS = Limits()
# What a client accepts from its own daemon: replies to `history` and `status` are larger than any request.
REPLY_LIMITS = Limits(header_bytes=134_217_728, header_items=134_217_728)
