"""The opening of a stream: its message, and what its answer means."""

from __future__ import annotations

import secrets

from trackd_client.errors import Timeout, TrackdError
from trackd_client.protocol import Open, ProtocolError, decode, encode
from trackd_client.sending.session import SessionState, StreamSession


def new_session_token() -> str:
    """Return a name for a stream's session, by which a daemon that was started again continues its output files."""
    return secrets.token_hex(8)


def check_opening(opening: Open) -> None:
    """Find an invalid argument before the message is sent: the daemon cannot assign its error to an invalid name.

    Raises:
        TrackdError: the daemon would refuse the message.
    """
    try:
        decode(encode(opening))
    except ProtocolError as error:
        raise TrackdError(error.message, error.code) from None


def check_opened(session: StreamSession, answered: bool, unopened: str) -> None:
    """Raise unless the daemon has opened the stream.

    Args:
        session: the stream.
        answered: whether there was an answer in time.
        unopened: the text of the error if there was none.

    Raises:
        TrackdError: the daemon refused it.
        Timeout: there was no answer in time.
    """
    if session.state is SessionState.LOST and session.error is not None:
        raise TrackdError(session.error.message, session.error.code)
    if not answered:
        last = f"; last error {session.error.code}: {session.error.message}" if session.error else ""
        raise Timeout(f"{unopened}{last}")
