"""Reads for the viewer's pages what the members of the fleet own; never on the IO thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from trackd.fleet.log import Work
from trackd.fleet.store import AwayError, Member, Owner
from trackd.viewer.fleet import FleetView, view_of

logger = logging.getLogger(__name__)

_BETWEEN_NS = 2_000_000_000  # at least, between two reads of the store


class ReadStore(Protocol):
    """What is read of a fleet's store."""

    async def members(self) -> dict[str, Member]:
        """Return the living members by name."""

    async def owners(self) -> dict[str, Owner]:
        """Return the owners of all streams."""


class FleetPages:
    """Keeps the newest state of the fleet for the pages; the IO thread uses it.

    Args:
        me: returns this member.
        store: of the fleet; its coroutines run on the fleet's thread.
        submit: runs a coroutine function on the fleet's thread.
        on_io: runs a function on the IO thread; any thread may call it.
        clock: monotonic ns.
    """

    def __init__(
        self,
        me: Callable[[], Member],
        store: ReadStore,
        submit: Callable[[Work], None],
        on_io: Callable[[Callable[[], None]], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._me = me
        self._store = store
        self._submit = submit
        self._on_io = on_io
        self._clock = clock
        self._view = self._unread()
        self._reading = False
        self._next_ns = 0

    def view(self) -> FleetView:
        """Return the newest state, and let the next one be read if it is due."""
        if not self._reading and self._clock() >= self._next_ns:
            self._reading = True
            self._next_ns = self._clock() + _BETWEEN_NS
            self._submit(self._read)
        return self._view

    def forget(self) -> None:
        """Forget the state: no page is open, and the next one must not be shown an old one."""
        self._view = self._unread()

    def _unread(self) -> FleetView:
        return FleetView(self._me().name, {})

    async def _read(self) -> None:
        """Read the store on the fleet's thread."""
        view: FleetView | None = None
        try:
            owners, members = await self._store.owners(), await self._store.members()
            view = await asyncio.to_thread(view_of, self._me(), owners, members)  # thousands of streams are sorted
        except AwayError as error:
            logger.debug("the fleet cannot be shown to the viewer's pages: %s", error)
        finally:
            self._on_io(partial(self._take, view))

    def _take(self, view: FleetView | None) -> None:
        self._reading = False
        self._view = self._view.as_away() if view is None else view
