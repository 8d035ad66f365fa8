"""This daemon as a member: it renews its lease, and knows the other members."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trackd.fleet.figures import FleetFigures
from trackd.fleet.log import FleetLog
from trackd.fleet.roster import Roster
from trackd.fleet.store import AwayError, Member, NameTakenError
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_RENEWALS = 3  # in the time of a lease
_CONNECT_S = 0.5  # between two attempts


class Membership:
    """Renews this member's lease on the event loop of the fleet's thread, and keeps the roster.

    Args:
        member: this one, as it is announced.
        log: whose thread runs all this.
        lease_s: after this time without a renewal the others take the member as gone.
        figures: for the metrics.
        clock_s: monotonic.
    """

    def __init__(
        self,
        member: Member,
        log: FleetLog[Any],
        lease_s: float,
        figures: FleetFigures,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.me = member
        self.roster = Roster()
        self.lease_s = lease_s
        self._log = log
        self._figures = figures
        self._clock_s = clock_s
        self.on_lapsed: Callable[[], None] = lambda: None  # called on the event loop, before the lease counts again
        self._changed = asyncio.Event()

    @property
    def has_lease(self) -> bool:
        """Whether the others still take this member as living, as far as it can know. Any thread may read it."""
        return self._clock_s() - self._figures.renewed_s < self.lease_s

    def change(self, *, draining: bool) -> None:
        """Announce that the member drains; on the event loop."""
        self.me = replace(self.me, draining=draining)
        self._changed.set()

    def note_streams(self) -> None:
        """Note that the number of owned streams may have changed; on the event loop."""
        self._figures.owned = len(self._log.held)

    async def run(self) -> None:
        """Connect, then renew the lease for as long as the loop runs."""
        while True:
            try:
                await self._log.store.open()
                break
            except ConfigError as error:
                self._log.fail(error)
                return
            except AwayError as error:
                self._log.connection_fault = f"the fleet's store cannot be reached: {error}"
                await asyncio.sleep(_CONNECT_S)
        await self._watch()
        while True:
            await self._renew()
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), self.lease_s / _RENEWALS)
            except TimeoutError:
                continue

    async def _watch(self) -> None:
        while True:
            try:
                await self._log.store.watch_members(self.roster.update)
                return
            except AwayError as error:
                self._log.connection_fault = f"the fleet's members cannot be read: {error}"
                await asyncio.sleep(_CONNECT_S)

    async def _renew(self) -> None:
        began = self._clock_s()  # before the call: the lease may run from then on
        self.note_streams()
        member = replace(self.me, streams=self._figures.owned)
        before = self._log.connection_fault
        try:
            await self._log.store.announce(member)
        except NameTakenError as error:
            self._log.connection_fault = (
                f"daemon.fleet.member: another living daemon has the name {member.name!r}; give each its own: {error}"
            )
        except AwayError as error:
            self._log.connection_fault = f"the lease of member {member.name!r} cannot be renewed: {error}"
        else:
            if began - self._figures.renewed_s > self.lease_s:
                self.on_lapsed()
            self._figures.renewed_s = began
            self._log.connection_fault = None
            if before is not None:
                logger.info("member=%s: it has joined the fleet, or joined it again", member.name)
            return
        if before != self._log.connection_fault:
            logger.error("%s", self._log.connection_fault)
