"""The errors that the SDK raises."""

from __future__ import annotations

from trackd_client.protocol import ErrorCode


class TrackdError(Exception):
    """The daemon refused a request, or an argument or the connection is faulty.

    Attributes:
        code: the code of the error in the protocol, or None if it has none.
        message: what is wrong and what would be right.
    """

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message


class Timeout(TrackdError, TimeoutError):  # noqa: N818 (the usual name)
    """The daemon did not answer in time."""


class Unreachable(TrackdError):  # noqa: N818 (the same)
    """The daemon refuses connections, so the request was not sent."""


class StreamLost(TrackdError):  # noqa: N818
    """This client has lost the stream: it was taken over or closed by others, or refused after a reconnect."""


IS_IT_RUNNING = "is it running? `trackd serve` starts it"  # the end of an error of a daemon that does not answer
# What follows the text of an error `moved` for a client that does not follow streams.
FOLLOWS = "trackd_client.FleetClient follows a stream from member to member of a fleet"
