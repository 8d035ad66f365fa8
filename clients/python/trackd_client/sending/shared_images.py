"""The shared memory of a stream's images."""

from __future__ import annotations

from trackd_client.detections import Image
from trackd_client.sending.session import StreamSession
from trackd_client.transport.shared_memory import ImageRing


def fits(ring: ImageRing, image: Image) -> bool:
    """Whether a ring takes images of this shape and dtype."""
    return ring.shape == image.shape and ring.dtype == image.dtype


def new_ring(image: Image, session: StreamSession) -> ImageRing:
    """Return a ring with more slots than there can be frames without an ack; bound these frames by it.

    Raises:
        ValueError, OSError: see `ImageRing`.
    """
    slots = max(session.credit, session.unacked) + 2
    ring = ImageRing(image.shape, image.dtype, slots)
    session.max_unacked = min(session.max_unacked, slots - 1)
    return ring
