"""What can go wrong for a caller."""

from __future__ import annotations

from trackd_client.protocol import ErrorCode


class TrackdError(Exception):
    """The daemon refused something, or could not be reached.

    Attributes:
        code: the daemon's code, or None where the daemon said nothing.
        message: what is wrong and what would be right.
    """

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message


class Timeout(TrackdError, TimeoutError):  # noqa: N818 (the name that a reader looks for)
    """The daemon did not answer in time."""


class StreamLost(TrackdError):  # noqa: N818
    """The stream is gone for this client: taken over, closed from elsewhere, or refused when it came back."""
