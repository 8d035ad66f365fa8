"""Control requests to the members of a fleet from an asyncio event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from trackd_client.async_requests import AsyncRequests
from trackd_client.errors import Timeout, TrackdError
from trackd_client.fleet.directory import Directory
from trackd_client.fleet.place import Place
from trackd_client.fleet.steps import Ask, Pause, Steps, listing, locating, requesting
from trackd_client.replies import StreamStatus
from trackd_client.transport.connection import Context
from trackd_client.transport.curve import CurveKeys


class AsyncFleetRequests:
    """Sends requests over one connection to each member that was asked."""

    def __init__(self, context: Context, directory: Directory, keys: CurveKeys | None) -> None:
        self.directory = directory
        self._context = context
        self._keys = keys
        self._by_endpoint: dict[str, AsyncRequests] = {}
        self._closed = False

    async def ask(self, method: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """Send a control request to the member that has the stream in `params`, or to any; return its result.

        Raises:
            TrackdError: the member refuses, or the connection was lost before the answer to a request that changes
                something.
            Timeout: no member answered it; the text has what each of them said.
        """
        stream = params.get("stream")
        about = f" about stream {stream!r}" if stream is not None else ""
        steps = requesting(self.directory, method, params)
        return await self._run(steps, stream, f"answered {method}{about}", timeout_s)

    async def streams(self, timeout_s: float) -> tuple[StreamStatus, ...]:
        """Return a row for each open stream, from each member that answers.

        Raises:
            TrackdError: none answers.
        """
        rows: tuple[StreamStatus, ...] = await self._run(listing(self.directory), None, "answered status", timeout_s)
        return rows

    async def locate(self, stream: str, timeout_s: float) -> Place:
        """Ask the members where a stream is.

        Raises:
            Timeout: none of them knows it.
        """
        what = f"knows where stream {stream!r} is"
        place = await self._run(locating(self.directory, stream), stream, what, timeout_s)
        assert isinstance(place, Place)
        return place

    async def close(self) -> None:
        """Close the connections after the requests that are in progress."""
        self._closed = True
        connections = list(self._by_endpoint.values())
        self._by_endpoint.clear()
        for connection in connections:
            await connection.close()

    async def _run(self, steps: Steps, stream: str | None, what: str, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        try:
            step: Ask | Pause = next(steps)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Timeout(self.directory.failure(stream, what, timeout_s))
                if isinstance(step, Pause):
                    await asyncio.sleep(min(step.seconds, left))
                    step = steps.send(None)
                    continue
                connection = self._connection(step.endpoint)
                limit_s = left if step.limit_s is None else min(step.limit_s, left)
                try:
                    result = await connection.ask(step.method, step.params, limit_s, must_connect=True)
                except TrackdError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            return done.value

    def _connection(self, endpoint: str) -> AsyncRequests:
        if self._closed:
            raise TrackdError("the client is closed")
        connection = self._by_endpoint.get(endpoint)
        if connection is None:
            connection = self._by_endpoint[endpoint] = AsyncRequests(self._context, endpoint, self._keys)
        return connection
