"""A connection in an asyncio event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trackd_client.transport.connection import Connection


class Watch:
    """Calls back when a connection has a message or has changed, and lets coroutines wait for that.

    Args:
        connection: the connection; its descriptors may change.
        on_event: is called in the event loop.
    """

    def __init__(self, connection: Connection, on_event: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._on_event = on_event
        self._watched: tuple[int, ...] = ()
        self._waiting: set[asyncio.Future[None]] = set()
        self.refresh()

    def refresh(self) -> None:
        """Watch the connection's present descriptors; call this after a `reconnect`."""
        if self._watched == self._connection.descriptors:
            return
        self._forget()
        self._watched = self._connection.descriptors
        for descriptor in self._watched:
            self._loop.add_reader(descriptor, self._on_event)
        # What came before is not signalled.
        self._loop.call_soon(self._on_event)

    def notify(self) -> None:
        """Wake all coroutines that wait."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        """Wait for `notify`, at most for a time in seconds."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(future)
        timer = self._loop.call_later(timeout_s, _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def close(self) -> None:
        """Stop watching. Close the connection after this."""
        self._forget()
        self.notify()

    def _forget(self) -> None:
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
        self._watched = ()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
