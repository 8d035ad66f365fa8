"""What a caller passes for a frame, checked and completed: its index, its capture time, its arrays."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from trackd_client.detections import Detections
from trackd_client.errors import TrackdError
from trackd_client.protocol import ErrorCode
from trackd_client.protocol.capture_time import SURELY_NS, capture_time_fault
from trackd_client.sending.clock import Clock
from trackd_client.sending.submission import AnyImage, checked_image, owned, whole_number

_T_NS = "an integer, nanoseconds since 1970 UTC, as time.time_ns() returns"


class CheckedFrame(NamedTuple):
    """A frame that can be sent."""

    image: Any  # None, an array, an encoded file or a place in shared memory
    detections: Detections  # with the wire's dtypes
    frame_index: int  # higher than that of the frame before it
    captured_ns: int  # capture time by this host's clock, Unix ns
    t_ns: int  # the capture time that is sent


class FrameInput:
    """Checks the frames of one stream, in order.

    Args:
        last_index: of the last frame that the daemon accepted; −1: none.
        clock: converts capture times to the daemon's clock; None: they are sent as they are.

    Attributes:
        last_index: of the last frame that was sent.
    """

    def __init__(self, last_index: int, clock: Clock | None = None) -> None:
        self.last_index = last_index
        self._last_t_ns: int | None = None  # of the last frame that was sent, by this host's clock
        self._clock = clock

    def check(
        self, image: AnyImage | None, detections: Detections, frame_index: int | None, t_ns: int | None
    ) -> CheckedFrame:
        """Return the frame as it is sent.

        Args:
            image: see `Stream.send`, as the other arguments.
            detections: copied.
            frame_index: the last one plus 1 if None.
            t_ns: now if None.

        Raises:
            TrackdError: a value cannot be sent; the text names it.
        """
        index = self.last_index + 1
        if frame_index is not None:
            index = whole_number("frame_index", frame_index, "an integer")
        if index <= self.last_index:
            raise TrackdError(f"frame_index must rise; got {index} after {self.last_index}", ErrorCode.INVALID_FRAME)
        image = checked_image(image)
        detections = owned(detections)
        captured_ns = time.time_ns() if t_ns is None else whole_number("t_ns", t_ns, _T_NS)
        fault = capture_time_fault(captured_ns, self._last_t_ns) if captured_ns < SURELY_NS else None
        if fault is not None:
            raise TrackdError(fault, ErrorCode.INVALID_FRAME)
        sent_ns = captured_ns
        if self._clock is not None and (clock := self._clock.at(captured_ns)) is not None:
            sent_ns = whole_number("t_ns by the daemon's clock", clock.daemon_ns(captured_ns), _T_NS)
        return CheckedFrame(image, detections, index, captured_ns, sent_ns)

    def sent(self, frame: CheckedFrame) -> None:
        """Note that the frame has a seq: the next one must have a higher index."""
        self.last_index, self._last_t_ns = frame.frame_index, frame.captured_ns
