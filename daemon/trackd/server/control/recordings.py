"""`recording.start`, `recording.stop` and `recording.list`: recordings of published messages in the daemon's folder."""

from __future__ import annotations

from trackd.server.access.grants import Right
from trackd.server.control.call import READERS, Call


def start(call: Call) -> None:
    """Record a stream from its next message on; answer with the name of the recording."""
    call.daemon.recordings.start(call.session(Right.CONTROL), call.author(), call.answer)


def stop(call: Call) -> None:
    """End the recording of a stream; answer with its counts."""
    call.daemon.recordings.stop(call.session(Right.CONTROL), call.author(), call.answer)


def list_recordings(call: Call) -> None:
    """Answer with a row for each recording of the streams that the client's key covers."""
    call.grant.require_any(READERS)
    call.daemon.recordings.list_all(call.grant.covers, call.answer)
