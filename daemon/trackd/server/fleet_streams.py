"""The streams of a member of a fleet: claimed at an `open`, handed on at a drain, lost to another member."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from trackd.config import LimitsConfig
from trackd.engine.outcome import Outcome, tracks_of_record
from trackd.fleet.log import FleetLog
from trackd.fleet.membership import Membership
from trackd.fleet.ownership import ElsewhereError, Ownership, Place
from trackd.fleet.placement import place
from trackd.fleet.store import AwayError, Member
from trackd.fleet.stored_log import StoredLog
from trackd.identity.gallery import Galleries
from trackd.models.registry import ModelRegistry
from trackd.server.checks import as_protocol_error
from trackd.server.fleet_galleries import FleetGalleries
from trackd.server.fleet_takeover import TakenStream, Takeovers
from trackd.server.moved import moved_error
from trackd.server.publisher import Publisher
from trackd.server.session import NO_OWNER, Session, Sessions
from trackd.server.waiting_opens import WaitingOpen, check_not_opening
from trackd_client.protocol import ErrorCode, EventName, ProtocolError, Tracks

logger = logging.getLogger(__name__)

_AT_ONCE = 4  # streams that a drain hands on at the same time


class StreamLife(Protocol):
    """What a fleet asks of the life of streams; every call is on the IO thread."""

    def create(self, asked: WaitingOpen, above: int) -> None:
        """Open a new stream, with an epoch above another one."""

    def take_over(self, asked: WaitingOpen, taken: TakenStream) -> None:
        """Open a stream as its log has it, and answer its client."""

    def leave(self, session: Session, stored: bool, done: Callable[[], None]) -> None:
        """End a stream here without closing it; `stored`: with a snapshot, so that the next owner replays nothing."""

    def forget(self, session: Session) -> None:
        """Remove a stream that was ended so."""


class FleetStreams:
    """Decides for each stream whether it is here; the IO thread uses it.

    Args:
        log: the fleet's thread.
        membership: this member and the others.
        ownership: claims and releases.
        sessions: the open streams.
        publisher: of refusals and events.
        on_io: runs a function on the IO thread; any thread may call it.
        limits, models, galleries: of the streams that are taken over.
    """

    def __init__(
        self,
        log: FleetLog[Outcome],
        membership: Membership,
        ownership: Ownership,
        sessions: Sessions,
        publisher: Publisher,
        on_io: Callable[[Callable[[], None]], None],
        limits: LimitsConfig,
        models: ModelRegistry,
        galleries: Galleries,
    ) -> None:
        self.membership = membership
        self.ownership = ownership
        self.log = log
        self.life: StreamLife | None = None
        self._sessions = sessions
        self._publisher = publisher
        self.on_io = on_io
        self._most_streams = limits.streams
        self._takeovers = Takeovers(membership.me.name, limits, models, galleries)
        self.galleries = FleetGalleries(log.store, galleries)
        self._claiming: dict[str, WaitingOpen] = {}
        self._terms: dict[str, int] = {}  # of the streams that are open here
        self._to_hand_on: deque[Session] = deque()
        self._leaving = 0  # streams whose end here is under way
        self._draining = False
        log.on_lost = lambda stream: on_io(partial(self._lost, stream))

    # --- open ---

    def check_contact(self, stream: str) -> None:
        """Check that this member may serve its streams.

        Raises:
            ProtocolError: it has no contact to the store (`moved`, without a member).
        """
        if not self.membership.has_lease:
            raise moved_error(stream, None)

    def open(self, asked: WaitingOpen) -> None:
        """Claim a stream that is not open here, and open it; else tell the client where it is.

        Raises:
            ProtocolError: another connection opens it (`stream_busy`), too many are open, or this member drains.
        """
        name = asked.message.stream
        before = self._claiming.get(name)
        check_not_opening(before, asked.owner, asked.message)
        if self._draining:
            raise moved_error(name, self._place_elsewhere(name))
        if before is None and len(self._sessions) + len(self._claiming) >= self._most_streams:
            raise ProtocolError(
                ErrorCode.TOO_LARGE,
                f"at most {self._most_streams} streams may be open at member {self.membership.me.name!r}; close one",
                stream=name,
            )
        self._claiming[name] = asked
        if before is None:
            sent_here = asked.message.member == self.membership.me.name
            self.log.submit(lambda: self._claim(name, sent_here))

    async def _claim(self, name: str, sent_here: bool) -> None:
        """Claim a stream and make it ready, on the fleet's thread; the IO thread gets the result."""
        term = 0
        try:
            stored, term = await self.ownership.claim(name, sent_here)
            if (gallery := self._gallery(name, stored)) is not None:
                await self.galleries.fetch(gallery)
            taken = await asyncio.to_thread(self._takeovers.prepare, stored)
        except ElsewhereError as elsewhere:
            self.on_io(partial(self._refuse, name, moved_error(name, elsewhere.place)))
        except AwayError as error:
            logger.warning("stream=%s: it cannot be claimed: %s", name, error)
            self.on_io(partial(self._refuse, name, moved_error(name, None)))
        except Exception as error:
            if not isinstance(error, ProtocolError | ValueError):
                logger.exception("stream=%s: it cannot be opened", name)
            if term:
                await self.ownership.release(name, term)
            self.on_io(partial(self._refuse, name, as_protocol_error(error, name)))
        else:
            self.on_io(partial(self._claimed, stored, term, taken))

    def _gallery(self, name: str, log: StoredLog) -> str | None:
        """Return the gallery that a stream asks for, of its `open` or of what is stored; not checked yet."""
        changes = self._claiming[name].message.config
        section = changes.get("tracker")
        asked = changes.get("gallery", section.get("gallery") if isinstance(section, Mapping) else None)
        if asked is None and log.opened is not None:
            asked = log.opened.opened["settings"]["tracker"].get("gallery")
        return asked if isinstance(asked, str) else None

    def _refuse(self, name: str, error: ProtocolError) -> None:
        asked = self._claiming.pop(name)
        self._publisher.refuse(asked.owner, error)

    def _claimed(self, log: StoredLog, term: int, taken: TakenStream | None) -> None:
        name = log.stream
        asked = self._claiming.pop(name)
        self._terms[name] = term
        assert self.life is not None
        try:
            if taken is None:
                self.life.create(asked, log.epoch)
            else:
                logger.info(
                    "stream=%s epoch=%d seq=%d term=%d: taken over",
                    name, taken.session.epoch, taken.session.settled_seq, term,
                )  # fmt: skip
                self.life.take_over(asked, taken)
                if log.first > 1:
                    self._read_history(taken.session, log, term)
        except Exception as error:
            self._publisher.refuse(asked.owner, as_protocol_error(error, name))
            if self._sessions.get(name) is None:
                self.release(name)

    def _read_history(self, session: Session, log: StoredLog, term: int) -> None:
        """Read what is stored before that what was needed to open a stream."""
        session.history.await_older()

        async def read() -> None:
            rows: list[Tracks] = []
            try:
                older = await self.ownership.read_older(log, term)
                if older is not None:
                    rows = await asyncio.to_thread(lambda: [tracks_of_record(record) for record in older.frames])
            finally:
                self.on_io(lambda: session.history.add_older(rows))

        self.log.submit(read)

    def share_gallery(self, name: str) -> None:
        """Give all members a gallery that was saved here."""
        self.log.submit(lambda: self.galleries.share(name))

    def refuse_elsewhere(self, error: ProtocolError, answer: Callable[[None, Exception], None]) -> None:
        """Refuse a request for a stream that is not open here: with where it is, if another member has it."""
        name = error.stream
        assert name is not None

        async def look() -> None:
            refusal = error
            try:
                found = await self.ownership.place(name)
                if found.term > 0 and not found.here:
                    refusal = moved_error(name, found)
            except AwayError:
                refusal = moved_error(name, None)
            self.on_io(lambda: answer(None, refusal))

        self.log.submit(look)

    # --- end ---

    def release(self, name: str, done: Callable[[], None] | None = None, *, moved: bool = False) -> None:
        """Give up a stream that is not open here any more.

        Args:
            name: the stream.
            done: called once it is free.
            moved: it is handed on, and counted so.
        """
        term = self._terms.pop(name, None)
        if term is None:
            return

        async def release() -> None:
            await self.ownership.release(name, term)
            self.log.figures.moved += moved
            if done is not None:
                self.on_io(done)

        self.log.submit(release)

    def _lost(self, name: str) -> None:
        """End a stream that another member has."""
        session = self._sessions.get(name)
        self._terms.pop(name, None)
        if session is None or session.leaving:
            return
        logger.warning("stream=%s epoch=%d: another member has it now", name, session.epoch)
        self._leave(session, stored=False, left=lambda: self._tell(session))

    def _tell(self, session: Session) -> None:
        """Look where a lost stream is, and tell its client and its subscribers."""

        async def look() -> None:
            try:
                found: Place | None = await self.ownership.place(session.name)
            except AwayError:
                found = None
            if found is not None and found.here:
                found = None
            self.on_io(lambda: self._moved(session, found))

        self.log.submit(look)

    def hand_on(self, session: Session, target: Member | None = None) -> None:
        """Give a stream to another member: its frames so far are settled, and its client is sent there.

        Args:
            session: the stream.
            target: the member; None: where it is placed without this one.
        """
        if session.closing:
            return

        def left() -> None:
            found = self._place_elsewhere(session.name) if target is None else Place(target)
            self.release(session.name, lambda: self._moved(session, found), moved=True)

        self._leave(session, stored=True, left=left)

    def _place_elsewhere(self, name: str) -> Place | None:
        """Return where a stream belongs without this member; None where no other one takes streams."""
        here = self.membership.me.name
        member = place(name, (member for member in self.membership.roster.members if member.name != here))
        return None if member is None else Place(member)

    def _leave(self, session: Session, stored: bool, left: Callable[[], None]) -> None:
        session.closing = session.leaving = True
        self._leaving += 1
        assert self.life is not None
        self.life.leave(session, stored, left)

    def _moved(self, session: Session, place: Place | None) -> None:
        self._leaving -= 1
        self._tell_moved(session, place)
        assert self.life is not None
        self.life.forget(session)
        if self._to_hand_on:
            self.hand_on(self._to_hand_on.popleft())

    def _tell_moved(self, session: Session, place: Place | None) -> None:
        error = moved_error(session.name, place)
        if session.owner != NO_OWNER:
            self._publisher.refuse(session.owner, error)
        self._publisher.event(
            session, EventName.MOVED, {"member": error.member, "endpoints": error.endpoints, "term": error.term}
        )

    # --- drain ---

    def drain(self) -> None:
        """Hand on all streams, a few at a time; call it again in each turn, for those that were opened meanwhile."""
        if not self._draining:
            self._draining = True

            async def announce() -> None:
                self.membership.change(draining=True)

            self.log.submit(announce)
        if not self._leaving:  # also those that were being claimed when the drain began
            self._to_hand_on.extend(session for session in self._sessions if not session.closing)
            for _ in range(min(_AT_ONCE, len(self._to_hand_on))):
                self.hand_on(self._to_hand_on.popleft())

    @property
    def idle(self) -> bool:
        """Whether no stream is claimed or ended now."""
        return not (self._claiming or self._leaving or self._to_hand_on)

    def lose_contact(self, session: Session) -> None:
        """Tell a stream's client and subscribers that this member cannot serve it now; called each second meanwhile."""
        self._tell_moved(session, None)
