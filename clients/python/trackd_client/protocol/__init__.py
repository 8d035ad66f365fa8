"""The wire protocol, version 1: every message as a typed value, its encoding and its decoding.

This package uses no sockets: `encode` returns parts to send, `decode` accepts received parts. docs/protocol.md is the
contract.
"""

from trackd_client.protocol.decode import decode
from trackd_client.protocol.encode import encode, tracks_to_map
from trackd_client.protocol.errors import ErrorCode, FrameHead, ProtocolError
from trackd_client.protocol.history import tracks_from_history
from trackd_client.protocol.limits import DEFAULT_LIMITS, REPLY_LIMITS, Limits
from trackd_client.protocol.messages import (
    PROTOCOL_VERSION,
    STAGES,
    Ack,
    Close,
    Closed,
    EncodedImage,
    Error,
    Event,
    EventName,
    Frame,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Reply,
    Request,
    SharedImage,
    Status,
    Timing,
    Tracks,
    topic,
)

__all__ = [
    "DEFAULT_LIMITS",
    "PROTOCOL_VERSION",
    "REPLY_LIMITS",
    "STAGES",
    "Ack",
    "Close",
    "Closed",
    "EncodedImage",
    "Error",
    "ErrorCode",
    "Event",
    "EventName",
    "Frame",
    "FrameHead",
    "Limits",
    "Message",
    "Open",
    "Opened",
    "Ping",
    "Pong",
    "ProtocolError",
    "Reply",
    "Request",
    "SharedImage",
    "Status",
    "Timing",
    "Tracks",
    "decode",
    "encode",
    "topic",
    "tracks_from_history",
    "tracks_to_map",
]
