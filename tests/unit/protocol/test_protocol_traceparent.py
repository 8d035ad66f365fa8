"""The trace context of a frame: carried as it was sent, absent by default, and never a reason to reject the frame."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from trackd_client.detections import Detections
from trackd_client.protocol import Frame, Limits, ProtocolError, decode, encode

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def frame(traceparent: str | None = None) -> Frame:
    return Frame("camera", 0, 0, 0, Detections.empty(), traceparent=traceparent)


def decoded(**fields: Any) -> Frame:
    head, *arrays = encode(frame())
    message = decode([msgpack.packb(msgpack.unpackb(head) | fields), *arrays], Limits())
    assert isinstance(message, Frame)
    return message


def test_a_trace_context_is_the_same_after_decoding_and_in_the_frames_head() -> None:
    message = decode(encode(frame(CONTEXT)), Limits())
    assert isinstance(message, Frame)
    assert message.traceparent == message.head.traceparent == CONTEXT


def test_a_frame_without_a_trace_context_has_no_such_key() -> None:
    assert "traceparent" not in msgpack.unpackb(encode(frame())[0])
    assert decoded().traceparent is None


@pytest.mark.parametrize("value", [None, 7, ["00"], {}, b"00", "0" * 129])
def test_a_value_that_cannot_be_a_trace_context_is_ignored(value: Any) -> None:
    assert decoded(traceparent=value).traceparent is None


def test_a_rejected_frame_keeps_its_trace_context() -> None:
    with pytest.raises(ProtocolError) as caught:
        decoded(traceparent=CONTEXT, detections={})
    assert caught.value.head is not None
    assert caught.value.head.traceparent == CONTEXT
