"""What a page shows of the other members of a fleet: one row for each of their streams, and the number of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trackd.fleet.store import Member, Owner
from trackd_client.protocol.fields import STREAM_NAME

MOST_ROWS = 1000  # streams of other members that a page is sent
MOST_MEMBERS = 256  # that are named in the head line
# Only these become links: the addresses come from the store, and a browser would run a javascript: URL.
_PAGE = re.compile(r"https?://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?", re.IGNORECASE)
_ANY_HOST = re.compile(r"https?://(0\.0\.0\.0|\[::\])(:[0-9]+)?/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OtherStream:
    """A stream that is not this member's."""

    stream: str
    member: str | None  # None: its owner is gone, and nobody has taken it over yet


@dataclass(frozen=True, slots=True)
class FleetView:
    """The fleet at one moment.

    Attributes:
        member: the name of this one.
        members: the streams that each living member owns, by its name; at most `MOST_MEMBERS`, this one included. Empty
            until the store has been read.
        more_members: living members that are not in `members`.
        streams: of other members, and those without an owner, by name; at most `MOST_ROWS`.
        more_streams: those that are not in `streams`.
        unowned: streams whose owner is gone, whether or not they are in `streams`.
        pages: where the page of each member in `streams` is; None where it has none that a browser can open.
        away: the store could not be reached since, so that this is its last known state.
    """

    member: str
    members: Mapping[str, int]
    more_members: int = 0
    streams: tuple[OtherStream, ...] = ()
    more_streams: int = 0
    unowned: int = 0
    pages: Mapping[str, str | None] | None = None
    away: bool = False

    def as_away(self) -> FleetView:
        """Return the same state, marked as the last known one."""
        return replace(self, away=True)

    def message(self, here: Container[str]) -> dict[str, Any]:
        """Return the part of the list of streams that a page gets of the fleet.

        Args:
            here: the streams that are open at this member. They have rows of their own, also where this state is older
                than their takeover.
        """
        return {
            "member": self.member,
            "away": self.away,
            "members": [[name, n] for name, n in self.members.items()],
            "more_members": self.more_members,
            "streams": [[row.stream, row.member] for row in self.streams if row.stream not in here],
            "more_streams": self.more_streams,
            "unowned": self.unowned,
            "pages": dict(self.pages or {}),
        }


def view_of(me: Member, owners: Mapping[str, Owner], members: Mapping[str, Member]) -> FleetView:
    """Return what a page of a member shows of the fleet.

    Args:
        me: this member.
        owners: of all streams, whether or not they live.
        members: the living ones by name. This one is shown also where its own key has just lapsed.
    """
    living = {**members, me.name: me}
    counts = Counter(dict.fromkeys(sorted(living), 0))
    others: list[OtherStream] = []
    unowned = 0
    for stream, owner in owners.items():
        if STREAM_NAME.fullmatch(stream) is None:  # no daemon opens it
            continue
        member = living.get(owner.member)
        if member is None or member.instance != owner.instance:
            unowned += 1
            others.append(OtherStream(stream, None))
        else:
            counts[owner.member] += 1
            if owner.member != me.name:
                others.append(OtherStream(stream, owner.member))
    others.sort(key=lambda row: row.stream)
    rows = tuple(others[:MOST_ROWS])
    named = _named(me.name, counts)
    shown = sorted({row.member for row in rows if row.member is not None})
    return FleetView(
        me.name, named, len(counts) - len(named), rows, len(others) - len(rows), unowned,
        {name: page_of(living[name]) for name in shown},
    )  # fmt: skip


def _named(me: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Return the members that the head line names, by name; this one is always among them."""
    names = sorted([me, *[name for name in counts if name != me][: MOST_MEMBERS - 1]])
    return {name: counts[name] for name in names}


def page_of(member: Member) -> str | None:
    """Return the address of a member's page with a '/' at its end.

    None where the member has no HTTP server, or its address is none that a browser can open: not http or https, or
    one that is bound on all interfaces.
    """
    address = member.endpoints.get("http", "")
    if _PAGE.fullmatch(address) is None or _ANY_HOST.fullmatch(address) is not None:
        return None
    return address.rstrip("/") + "/"
