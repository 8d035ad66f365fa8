"""The client of a fleet of daemons: it follows each stream from member to member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from trackd_client.errors import TrackdError
from trackd_client.fleet.directory import Directory
from trackd_client.fleet.drivers import StreamDriver
from trackd_client.fleet.following import FleetHistory, StreamPlaces
from trackd_client.fleet.place import Place
from trackd_client.fleet.requests import FleetRequests
from trackd_client.following.gap_filler import HistorySource
from trackd_client.following.subscription import Places
from trackd_client.replies import StreamStatus
from trackd_client.sending.driver import IngestDriver
from trackd_client.stream_client import StreamClient
from trackd_client.transport.connection import Context


class FleetClient(StreamClient):
    """A client of all members of a fleet. Each of its streams has a connection of its own.

    Args:
        members: control endpoints of members. One that lives suffices; the client learns the others from it.
        context: a ZeroMQ context; the process's shared one if None.
        timeout_s: how long a call waits if it has no timeout of its own.
        server_key: the public CURVE key, which all members share; None: no CURVE.
        client_keys: this client's public and secret key.

    Raises:
        ValueError: there is no member, a key is invalid, or only one of the two keys is given.

    A stream that is open and whose owner is lost is looked for without a limit, with a warning every 5 s. Calls wait
    meanwhile, up to their timeout. Every method may be called from any thread.
    """

    _moves = True

    def __init__(
        self,
        members: Sequence[str],
        context: Context | None = None,
        timeout_s: float = 10.0,
        *,
        server_key: str | bytes | None = None,
        client_keys: tuple[str | bytes, str | bytes] | None = None,
    ) -> None:
        super().__init__(context, timeout_s, server_key, client_keys)
        self._directory = Directory(members)
        self._requests = FleetRequests(self._context, self._directory, self._keys)
        self._drivers: dict[str, StreamDriver] = {}  # by stream

    @property
    def members(self) -> list[str]:
        """The control endpoints of the members that are known."""
        return self._directory.members

    def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol to the member that has its `stream`, or else to any living member.

        Raises:
            TrackdError: the member refuses, or the connection was lost before the answer to a request that changes
                something.
            Timeout: no member answered it; the text has what each of them said.
        """
        return self._requests.ask(method, params, self.timeout_s)

    def streams(self) -> tuple[StreamStatus, ...]:
        """Return a row for each open stream of all members that answer.

        Raises:
            TrackdError: none does.
        """
        return self._requests.streams(self.timeout_s)

    def locate(self, stream: str) -> Place:
        """Return the member that has a stream, or should get it.

        Raises:
            Timeout: no member knows it; the text has what each of them said.
        """
        return self._requests.locate(stream, self.timeout_s)

    def close(self) -> None:
        """Close all sockets. The members keep open streams until a timeout or a takeover by another client."""
        self._close_subscriptions()
        for driver in list(self._drivers.values()):
            driver.close()
        self._requests.close()

    def __enter__(self) -> FleetClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _configured(self, stream: str, effective: Mapping[str, Any]) -> None:
        driver = self._drivers.get(stream)
        if driver is not None:
            with driver.turn():
                if (session := driver.sessions.get(stream)) is not None:
                    session.configured(effective)

    def _driver_of(self, stream: str) -> IngestDriver:
        with self._lock:
            if self._closed:
                raise TrackdError("the client is closed")
            driver = self._drivers.get(stream)
            if driver is None or driver.ended:
                driver = self._drivers[stream] = StreamDriver(self._context, self._directory, stream, self._keys)
            return driver

    def _history_source(self) -> HistorySource:
        return FleetHistory(self._requests, self.timeout_s)

    def _places(self) -> Places | None:
        return StreamPlaces(self._requests)
