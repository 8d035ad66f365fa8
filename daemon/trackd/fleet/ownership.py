"""The streams of this member: claim them, read what is stored of them, give them up."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from trackd.config import StreamConfig
from trackd.crash_points import crash_point
from trackd.fleet.figures import FleetFigures
from trackd.fleet.held import HeldStream
from trackd.fleet.log import FleetLog
from trackd.fleet.membership import Membership
from trackd.fleet.retained import RetainedMessages
from trackd.fleet.store import AwayError, Claimed, Member, OwnedError, Owner
from trackd.fleet.stored_log import StoredLog

logger = logging.getLogger(__name__)

_ATTEMPTS = 5  # at a claim, against others
_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream is, or would be."""

    member: Member | None  # None: no living member has it, or may take it
    term: int = 0  # of the ownership; 0: nobody owns it
    here: bool = False


class ElsewhereError(Exception):
    """A stream that another member has, or should get."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


class Ownership:
    """Claims and releases on the event loop of the fleet's thread.

    Args:
        log: holds the streams that are owned.
        membership: this member and the others.
        figures: for the metrics.
        defaults: of streams without settings of their own.
    """

    def __init__(
        self,
        log: FleetLog[Any],
        membership: Membership,
        figures: FleetFigures,
        defaults: StreamConfig,
    ) -> None:
        self._log = log
        self._membership = membership
        self._figures = figures
        self._defaults = defaults
        self._reading_older = asyncio.Lock()
        self._doubtful: set[str] = set()  # owned when the lease had ended, and not looked up since
        membership.on_lapsed = self.doubt_all
        log.confirm = self.confirm

    async def place(self, stream: str) -> Place:
        """Return where a stream is; where nobody living has it, where it would be placed.

        Raises:
            AwayError: the store cannot be reached.
        """
        return await self._place_of(stream, await self._log.store.locate(stream))

    async def _place_of(self, stream: str, owner: Owner | None) -> Place:
        me = self._membership.me
        if owner is not None and self._is_mine(owner):
            return Place(me, owner.term, here=True)
        if owner is not None and (living := await self._living(owner)) is not None:
            return Place(living, owner.term)
        member = self._membership.roster.place(stream)
        return Place(member, 0, here=member is not None and member.name == me.name)

    async def _living(self, owner: Owner) -> Member | None:
        """Return an owner's member if it lives; a process that was started again under the name is another one."""
        member = await self._log.store.member(owner.member)
        return member if member is not None and member.instance == owner.instance else None

    def _is_mine(self, owner: Owner) -> bool:
        me = self._membership.me
        return (owner.member, owner.instance) == (me.name, me.instance)

    async def claim(self, stream: str, sent_here: bool) -> tuple[StoredLog, int]:
        """Become a stream's owner; return what is stored of it without its history, and the term.

        Args:
            stream: its name.
            sent_here: a member has sent the client here, so the placement is not looked at again.

        Raises:
            ElsewhereError: it belongs to another member, or should be placed there.
            AwayError: the store cannot be reached.
        """
        store, membership = self._log.store, self._membership
        for attempt in range(_ATTEMPTS):
            if not membership.has_lease:
                raise AwayError("this member has no contact to the fleet's store")
            owner = await store.locate(stream)
            place = await self._place_of(stream, owner)
            owned = place.term > 0
            if not place.here and place.member is not None and (owned or not sent_here):
                raise ElsewhereError(place)
            crash_point("before_claim")
            try:
                claimed = await store.claim(stream, membership.me, owner)
            except OwnedError as error:
                logger.info("stream=%s: the claim was refused: %s", stream, error)
                await asyncio.sleep(_RETRY_S * attempt)
                continue
            crash_point("after_claim")
            self._figures.claims += 1
            self._figures.takeovers += owner is not None
            return await self._open_log(stream, claimed), claimed.term
        raise AwayError(f"stream {stream!r} could not be claimed: other members claim it at the same time")

    async def _open_log(self, stream: str, claimed: Claimed) -> StoredLog:
        stored = await self._read(stream, claimed.base, claimed.sequence)
        if claimed.base > 1 and not stored.is_whole:
            stored = await self._read(stream, 1, claimed.sequence)
        crash_point("after_read")
        retained = RetainedMessages(self._defaults.history_frames, self._defaults.queue_depth, stored.spans)
        if stored.opened is not None:
            retained.note_opening(stored.opened)
        self._log.held[stream] = HeldStream(
            claimed.term, claimed.sequence, stored.link, stored.epoch, retained, stored.opened, stored.first
        )
        self._membership.note_streams()
        return stored

    async def read_older(self, log: StoredLog, term: int) -> StoredLog | None:
        """Return what is stored before a log that was read at a claim; None once the stream is another member's.

        One stream is read at a time, since nothing but requests for its history waits for it.
        """
        async with self._reading_older:
            return await self._older(log, term)

    async def _older(self, log: StoredLog, term: int) -> StoredLog | None:
        while (held := self._log.held.get(log.stream)) is not None and held.term == term:
            try:
                older = await self._read(log.stream, 1, log.first - 1)
            except AwayError as error:
                logger.warning("stream=%s: its history cannot be read yet: %s", log.stream, error)
                await asyncio.sleep(_RETRY_S)
                continue
            held.retained.add_older(older.spans)
            return older
        return None

    async def _read(self, stream: str, first: int, last: int) -> StoredLog:
        stored = StoredLog(stream, first)
        messages = [message async for message in self._log.store.read(stream, last, first)]

        def add_all() -> None:
            for message in messages:
                stored.add(*message)

        await asyncio.to_thread(add_all)  # thousands of frames take some tenths of a second
        return stored

    async def release(self, stream: str, term: int) -> None:
        """Give a stream up, so that any member may claim it at once. It is repeated until the store has done it."""
        held = self._log.held.get(stream)
        if held is not None and held.term == term:
            del self._log.held[stream]
        self._membership.note_streams()
        while True:
            try:
                await self._log.store.release(stream, term)
                return
            except AwayError as error:
                logger.warning("stream=%s term=%d: it cannot be released yet: %s", stream, term, error)
                await asyncio.sleep(_RETRY_S)

    def doubt_all(self) -> None:
        """Note that the lease had ended: any stream may belong to another member by now; on the event loop."""
        self._doubtful |= set(self._log.held)
        self._log.start(lambda: self.confirm(set(self._log.held)))

    async def confirm(self, streams: set[str]) -> None:
        """Before outcomes are delivered: where the lease has ended meanwhile, lose the streams that others have now.

        A process that was stopped and goes on would publish what it has appended before the stop. That would be
        correct, but its successor has published it already.
        """
        for stream in streams if not self._membership.has_lease else streams & self._doubtful:
            while stream in self._log.held:
                try:
                    owner = await self._log.store.locate(stream)
                except AwayError:
                    await asyncio.sleep(_RETRY_S)
                    continue
                if owner is None or not self._is_mine(owner):
                    self._log.lose(stream)
                break
            self._doubtful.discard(stream)
