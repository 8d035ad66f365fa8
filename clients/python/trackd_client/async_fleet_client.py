"""The client of a fleet of daemons for asyncio programs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from trackd_client.async_stream_client import AsyncStreamClient
from trackd_client.errors import TrackdError
from trackd_client.fleet.async_requests import AsyncFleetRequests
from trackd_client.fleet.directory import Directory
from trackd_client.fleet.drivers import AsyncStreamDriver
from trackd_client.fleet.place import Place
from trackd_client.fleet_client import FleetClient
from trackd_client.replies import StreamStatus
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.transport.connection import Context


class AsyncFleetClient(AsyncStreamClient):
    """A client of all members of a fleet, in one event loop. Arguments and methods are those of `FleetClient`.

    Raises:
        ValueError: there is no member, a key is invalid, or only one of the two keys is given.
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
        following = FleetClient(members, context, timeout_s, server_key=server_key, client_keys=client_keys)
        super().__init__(context, timeout_s, server_key, client_keys, following)
        self._directory = Directory(members)
        self._requests = AsyncFleetRequests(self._context, self._directory, self._keys)
        self._drivers: dict[str, AsyncStreamDriver] = {}  # by stream

    @property
    def members(self) -> list[str]:
        """The control endpoints of the members that are known."""
        return self._directory.members

    async def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol to the member that has its `stream`, or else to any living member.

        Raises:
            TrackdError: the member refuses, or the connection was lost before the answer to a request that changes
                something.
            Timeout: no member answered it; the text has what each of them said.
        """
        return await self._requests.ask(method, params, self.timeout_s)

    async def streams(self) -> tuple[StreamStatus, ...]:
        """Return a row for each open stream of all members that answer.

        Raises:
            TrackdError: none does.
        """
        return await self._requests.streams(self.timeout_s)

    async def locate(self, stream: str) -> Place:
        """Return the member that has a stream, or should get it.

        Raises:
            Timeout: no member knows it; the text has what each of them said.
        """
        return await self._requests.locate(stream, self.timeout_s)

    async def close(self) -> None:
        """Close all sockets. The members keep open streams until a timeout or a takeover by another client."""
        self._close_iterations()
        for driver in list(self._drivers.values()):
            await driver.close()
        await self._requests.close()
        await asyncio.to_thread(self._following.close)  # a subscription's thread may hold its socket for 0.1 s

    async def __aenter__(self) -> AsyncFleetClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _configured(self, stream: str, effective: Mapping[str, Any]) -> None:
        driver = self._drivers.get(stream)
        if driver is not None and (session := driver.sessions.get(stream)) is not None:
            session.configured(effective)

    def _driver_of(self, stream: str) -> AsyncIngestDriver:
        if self._closed:
            raise TrackdError("the client is closed")
        driver = self._drivers.get(stream)
        if driver is None or driver.closed:
            driver = self._drivers[stream] = AsyncStreamDriver(self._context, self._directory, stream, self._keys)
        return driver
