"""The drivers of one stream of a fleet, which has a connection of its own: for threads, and for asyncio."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trackd_client.errors import TrackdError
from trackd_client.fleet.directory import Directory
from trackd_client.fleet.exchange import FleetExchange
from trackd_client.protocol import ErrorCode
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.sending.driver import IngestDriver
from trackd_client.sending.session import StreamSession
from trackd_client.transport.connection import Context
from trackd_client.transport.curve import CurveKeys


def _drop(session: StreamSession) -> None:
    if not session.ended:
        session.lose(ErrorCode.UNKNOWN_STREAM, f"this client does not have stream {session.stream!r} open any more")


class StreamDriver(IngestDriver):
    """One stream over one connection, which follows the stream. It ends with the stream."""

    def __init__(self, context: Context, directory: Directory, stream: str, keys: CurveKeys | None) -> None:
        self._directory = directory
        super().__init__(
            context, directory.members[0], keys, partial(FleetExchange, directory=directory, stream=stream)
        )

    @property
    def ended(self) -> bool:
        """Whether the stream was removed, or the client closed."""
        return self._closed.is_set()

    def remove(self, session: StreamSession) -> None:
        """Remove the stream and close the connection. The caller holds `turn`."""
        super().remove(session)
        _drop(session)
        if not self._closed.is_set():
            self._closed.set()  # the keepalive thread ends by itself
            self._claim()
            self._connection.close()

    def pump(self, *, read: bool = True, until: Callable[[], Any] | None = None) -> None:
        """See `IngestDriver.pump`; a stream that was removed has nothing to send."""
        if self._closed.is_set() and not self.sessions:
            return
        super().pump(read=read, until=until)

    def unopened(self, stream: str, limit_s: float) -> str:
        """Return the text of the error of a stream that was not opened in time."""
        return self._directory.failure(stream, f"opened stream {stream!r}", limit_s)


class AsyncStreamDriver(AsyncIngestDriver):
    """One stream over one connection, which follows the stream. It ends with the stream."""

    def __init__(self, context: Context, directory: Directory, stream: str, keys: CurveKeys | None) -> None:
        self._directory = directory
        super().__init__(
            context, directory.members[0], keys, partial(FleetExchange, directory=directory, stream=stream)
        )

    def remove(self, session: StreamSession) -> None:
        """Remove the stream and close the connection."""
        super().remove(session)
        _drop(session)
        if not self.closed:
            self.closed = True
            self._keepalive.cancel()
            self._watch.close()
            self._connection.close()

    def pump(self, *, read: bool = True) -> None:
        """See `AsyncIngestDriver.pump`; a stream that was removed has nothing to send.

        Raises:
            TrackdError: the client is closed.
        """
        if self.closed:
            if self.sessions:
                raise TrackdError("the client is closed")
            return
        super().pump(read=read)

    def unopened(self, stream: str, limit_s: float) -> str:
        """Return the text of the error of a stream that was not opened in time."""
        return self._directory.failure(stream, f"opened stream {stream!r}", limit_s)
