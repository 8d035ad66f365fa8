"""What a member knows of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trackd.fleet.placement import place
from trackd.fleet.store import Member, Owner


@dataclass(frozen=True, slots=True)
class RosterCounts:
    """Sums over the living members."""

    members: int
    draining: int
    capacity: int  # streams, of the members that are not draining
    streams: int  # that all of them own, as far as they have announced


class Roster:
    """The living members, as the store has reported them last. Empty until the first report.

    `update` replaces the list as a whole, so that any thread may read while another one updates.
    """

    def __init__(self) -> None:
        self._members: Mapping[str, Member] = {}

    def update(self, members: Mapping[str, Member]) -> None:
        """Take the latest living members, by name."""
        self._members = dict(sorted(members.items()))

    @property
    def members(self) -> tuple[Member, ...]:
        """The living members, by name."""
        return tuple(self._members.values())

    @property
    def counts(self) -> RosterCounts:
        """The sums over the living members."""
        members = self.members
        return RosterCounts(
            len(members),
            sum(member.draining for member in members),
            sum(member.capacity for member in members if not member.draining),
            sum(member.streams for member in members),
        )

    def get(self, name: str) -> Member | None:
        """Return a living member; None if it is not known."""
        return self._members.get(name)

    def is_alive(self, owner: Owner) -> bool:
        """Whether an owner lives. A process that was started again under the same name is another one."""
        member = self._members.get(owner.member)
        return member is not None and member.instance == owner.instance

    def place(self, stream: str) -> Member | None:
        """Return the member that a stream without a living owner belongs to; None where no member takes streams."""
        return place(stream, self.members)

    def control_endpoints(self) -> list[str]:
        """Return where the living members answer control requests, draining ones included, by name of the member."""
        return [member.endpoints["control"] for member in self.members if "control" in member.endpoints]
