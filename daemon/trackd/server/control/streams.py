"""`stream.configure`, `stream.reset`, `stream.close` and `tracks.live`: requests about one open stream."""

from __future__ import annotations

from trackd.server.access.grants import Right
from trackd.server.control.call import READERS, Call
from trackd_client.protocol import Closed, ErrorCode, ProtocolError
from trackd_client.protocol import fields as read


def configure(call: Call) -> None:
    """Change the settings of a stream; answer with all of its settings."""
    session = call.session(Right.CONTROL)
    call.daemon.streams.configure(session, read.mapping(call.params, "config"), call.answer)


def reset(call: Call) -> None:
    """Start a new epoch of a stream; answer with its number."""
    call.daemon.streams.reset(call.session(Right.CONTROL), call.answer)


def close(call: Call) -> None:
    """Close a stream; answer with its last seq after its queued frames are settled."""

    def closed(message: Closed) -> None:
        call.answer({"stream": message.stream, "epoch": message.epoch, "last_seq": message.last_seq})

    name = read.stream_name(call.params)
    call.grant.require(Right.CONTROL, name)
    unavailable = call.daemon.streams.unavailable.get(name)
    if unavailable is not None:
        call.daemon.streams.unavailable.close(unavailable, closed)
        return
    call.daemon.streams.close(call.session(Right.CONTROL), "closed by control", closed)


def live_tracks(call: Call) -> None:
    """Answer with the live tracks of a stream after its last settled frame."""
    name = read.stream_name(call.params)
    call.grant.require_any(READERS, name)
    session = call.daemon.sessions.get(name)
    if session is not None and session.closing:  # some of its frames may not be settled yet
        raise ProtocolError(ErrorCode.STREAM_BUSY, f"stream {name!r} is being closed", stream=name)
    call.daemon.streams.requests.live(call.session(*READERS), call.answer)
