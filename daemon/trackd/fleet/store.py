"""What a fleet shares: its members, the owner of each stream, and the log of each stream.

Safety is the fence: every append states the sequence of the stream's last message, and the store refuses it if there is
a later one. A member that has lost a stream is refused so, whatever it believes. The time after which an absent member
is taken as gone concerns liveness only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Member:
    """A daemon of the fleet, as the others see it."""

    name: str
    instance: str  # of this process: a random token, another one after each start
    endpoints: Mapping[str, str]  # ingest, tracks, control: as clients reach them; http where it has a page
    capacity: int  # streams that it is meant to hold; 0: it takes none
    streams: int = 0  # that it owns now
    draining: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """The member that owns a stream."""

    member: str
    instance: str
    term: int  # of the ownership: higher than that of every earlier owner of the stream


@dataclass(frozen=True, slots=True)
class Claimed:
    """A stream that this member has just got."""

    term: int
    sequence: int  # of the claim in the stream's log; all messages before it are final
    base: int = 1  # the sequence from which a takeover must read; what is before it is history


class FleetError(Exception):
    """Base of the errors of a store. Its text is one line."""


class AwayError(FleetError):
    """The store cannot be reached, or has no majority now. The call may be repeated."""


class FencedError(FleetError):
    """Another member has the stream, so that this one may write nothing more of it."""


class OwnedError(FleetError):
    """A claim found another owner, or lost against another claim."""

    def __init__(self, message: str, owner: Owner | None) -> None:
        super().__init__(message)
        self.owner = owner  # None: not known; look again


class NameTakenError(FleetError):
    """Another living daemon has this member's name."""


class FleetStore(Protocol):
    """The store of one member; every call is a coroutine of one event loop.

    Each call but `open` raises `AwayError` where the store cannot be reached within its time limit.
    """

    async def open(self) -> None:
        """Connect, check the servers, and create what is missing.

        Raises:
            ConfigError: the servers cannot hold this fleet; one line says why.
            AwayError: they cannot be reached.
        """

    async def close(self) -> None:
        """Close the connection."""

    # --- members ---

    async def announce(self, member: Member) -> None:
        """Store this member for `lease_s`: called each third of that time, and at once after a change.

        Raises:
            NameTakenError: a living member of another instance has the name. A member of the same name whose process
                was killed is taken as living until its lease has ended.
        """

    async def leave(self) -> None:
        """Remove this member."""

    async def members(self) -> dict[str, Member]:
        """Return the living members by name. What cannot be read is left out, and logged once."""

    async def member(self, name: str) -> Member | None:
        """Return a living member, as exactly as the store can say it now; None where it does not live."""

    async def watch_members(self, changed: Callable[[dict[str, Member]], None]) -> None:
        """Call `changed` with all living members, now and from time to time, until `close`. Returns at once."""

    # --- owners ---

    async def locate(self, stream: str) -> Owner | None:
        """Return the owner of a stream, whether or not it lives; None where nobody has it."""

    async def owners(self) -> dict[str, Owner]:
        """Return the owners of all streams."""

    async def claim(self, stream: str, member: Member, seen: Owner | None) -> Claimed:
        """Become the owner of a stream, and write the claim into its log.

        Args:
            stream: its name.
            member: who claims.
            seen: what `locate` has returned: an owner that is gone, or None.

        Raises:
            OwnedError: the owner is another one than `seen` by now, or another claim came first.
        """

    async def release(self, stream: str, term: int) -> None:
        """Give a stream up: nobody owns it then. Nothing happens if another owner has it."""

    # --- the log of a stream ---

    async def append(self, stream: str, term: int, after: int, data: bytes, base: int = 1) -> int:
        """Append a message; it is on a majority of the servers' disks when this returns.

        One append of a stream may be under way at a time. After an `AwayError` the same append must be repeated: it is
        not known whether it is stored, and the repetition finds it if it is.

        Args:
            stream: its name.
            term: of this member's ownership.
            after: the sequence of the stream's last message: of the claim, or of the last append.
            data: the message. One larger than the servers take in one piece is stored in several.
            base: the sequence from which a takeover must read after this message; 0: from this message.

        Returns:
            Its sequence.

        Raises:
            FencedError: another member has claimed the stream since then.
        """

    def read(self, stream: str, up_to: int, first: int = 1) -> AsyncIterator[tuple[int, int, bytes]]:
        """Read a stream's messages from a sequence to another one: sequence, term, data. Claims have empty data.

        A message that is not of a member of this fleet (another format, missing pieces) has the term −1.
        """

    async def trim(self, stream: str, before: int) -> None:
        """Delete a stream's messages with a lower sequence than `before`."""

    # --- files of the fleet ---

    async def put_file(self, name: str, data: bytes) -> None:
        """Store a file that all members may read, such as a gallery."""

    async def get_file(self, name: str) -> bytes | None:
        """Return a file; None where there is none."""

    async def files(self) -> list[str]:
        """Return the names of all files."""
