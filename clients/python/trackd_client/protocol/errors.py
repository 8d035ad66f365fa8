"""The one exception of the wire, and the closed set of its codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """The kind of an error, for programs. The message beside it is for people."""

    BAD_MESSAGE = "bad_message"
    UNSUPPORTED_VERSION = "unsupported_version"
    BAD_CONFIG = "bad_config"
    UNKNOWN_STREAM = "unknown_stream"
    STREAM_BUSY = "stream_busy"
    SEQ_GAP = "seq_gap"
    NO_CREDIT = "no_credit"
    INVALID_FRAME = "invalid_frame"
    TOO_LARGE = "too_large"
    STEP_TOO_LONG = "step_too_long"
    DEVICE_OUT_OF_MEMORY = "device_out_of_memory"
    UNKNOWN_MODEL = "unknown_model"
    BAD_CORRECTION = "bad_correction"
    ZONES_CHANGED = "zones_changed"
    BAD_RECORDING = "bad_recording"
    DRAINING = "draining"
    FORBIDDEN = "forbidden"
    OVER_BUDGET = "over_budget"
    MOVED = "moved"
    INTERNAL = "internal"


MOST_CHARACTERS = 2000  # of an error's text


@dataclass(slots=True)
class FrameHead:
    """The identity of a frame: enough to settle the frame, even if its arrays are invalid."""

    stream: str
    seq: int
    frame_index: int
    t_ns: int
    traceparent: str | None = None  # W3C trace context of the sender, as it was sent


class ProtocolError(Exception):
    """A message that cannot be used.

    Attributes:
        code: one of `ErrorCode`.
        message: what is wrong, with the value, and what would be right.
        stream, seq: of the refused message, where they could be read.
        expected: with `seq_gap`, the seq that is expected.
        member, endpoints, term: with `moved`, the member of the fleet that has the stream or should get it, its
            endpoints and the term of its ownership, 0 if nobody owns it. None: the daemon cannot say who has it.
        head: of a frame that has a valid head and invalid arrays: it settles as `rejected`.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        stream: str | None = None,
        seq: int | None = None,
        expected: int | None = None,
        head: FrameHead | None = None,
        member: str | None = None,
        endpoints: Mapping[str, str] | None = None,
        term: int | None = None,
    ) -> None:
        message = message[:MOST_CHARACTERS]
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.stream = head.stream if head else stream
        self.seq = head.seq if head else seq
        self.expected = expected
        self.member, self.endpoints, self.term = member, endpoints, term
        self.head = head


def bad_message(message: str, *, stream: str | None = None, seq: int | None = None) -> ProtocolError:
    """A `bad_message` error."""
    return ProtocolError(ErrorCode.BAD_MESSAGE, message, stream=stream, seq=seq)
