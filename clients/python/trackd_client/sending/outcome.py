"""How a wait for a stream or a frame ends: with its result, or with the error that says why not."""

from __future__ import annotations

from trackd_client.errors import StreamLost, Timeout, TrackdError
from trackd_client.protocol import ErrorCode, Status, Tracks
from trackd_client.sending.session import PendingFrame, SessionState, StreamSession


def check_ended(session: StreamSession, finished: bool, endpoint: str, limit_s: float, what: str) -> None:
    """Raise why a wait ended without its result.

    Args:
        session: the stream.
        finished: whether the stream ended, and not the time.
        endpoint: of the daemon.
        limit_s: how long the caller waits, as in the error.
        what: completes "the daemon did not" in the error.

    Raises:
        StreamLost: the stream is closed or lost.
        Timeout: the time is over.
    """
    if session.state is SessionState.LOST and session.error is not None:
        raise StreamLost(session.error.message, session.error.code)
    if session.ended:
        raise StreamLost(f"stream {session.stream!r} is closed")
    if not finished:
        last = f"; last error {session.error.code}: {session.error.message}" if session.error else ""
        raise Timeout(
            f"the daemon at {endpoint} did not {what} of stream {session.stream!r} within {limit_s:g} s "
            f"({session.unacked} frames without an ack, state {session.state}{last}): is it running? "
            "`trackd status` shows it"
        )


def check_tracked(pending: PendingFrame, tracks: Tracks | None) -> Tracks:
    """Return a frame's tracks.

    Raises:
        TrackdError: the daemon rejected the frame.
    """
    if pending.error is not None:
        raise TrackdError(pending.error.message, pending.error.code)
    if tracks is None or tracks.status is Status.REJECTED:
        reason = tracks.reason if tracks is not None else None
        raise TrackdError(f"frame {pending.frame.frame_index} was rejected: {reason}", ErrorCode.INVALID_FRAME)
    return tracks
