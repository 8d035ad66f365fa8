"""The streams of other members, for the pages of the viewer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from trackd.fleet.store import AwayError, Member, Owner
from trackd.server.fleet_streams import FleetStreams

MOST_ROWS = 1000  # streams of other members that a page is told
_PAUSE_S = 2.0  # between two looks
_SCHEMES = ("http://", "https://")


class FleetPages:
    """What pages are told of the fleet; the IO thread asks for it each second while there are pages.

    Args:
        fleet: of this member.
        clock_s: monotonic.
    """

    def __init__(self, fleet: FleetStreams, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._clock_s = clock_s
        self._found: dict[str, Any] | None = None
        self._looked_s = -_PAUSE_S
        self._looking = False

    def found(self) -> dict[str, Any] | None:
        """Return what is known of the fleet, and look again where that is due; None before the first answer."""
        now = self._clock_s()
        if not self._looking and now - self._looked_s >= _PAUSE_S:
            self._looking, self._looked_s = True, now
            self._fleet.log.submit(self._look)
        return self._found

    async def _look(self) -> None:
        store, here = self._fleet.log.store, self._fleet.membership.me.name
        found = self._found
        with suppress(AwayError):
            found = fleet_rows(here, await store.members(), await store.owners())

        def done() -> None:
            self._found, self._looking = found, False

        self._fleet.on_io(done)


def fleet_rows(here: str, members: dict[str, Member], owners: dict[str, Owner]) -> dict[str, Any]:
    """Return the members with their numbers of streams, and the streams of the others.

    A stream has the address of its member's page, or None where there is no page; its member is None where nobody
    living owns it.
    """
    rows: list[dict[str, Any]] = []
    counts = dict.fromkeys(sorted(members), 0)
    for stream, owner in sorted(owners.items()):
        member = members.get(owner.member)
        if member is None or member.instance != owner.instance:
            rows.append({"stream": stream, "member": None, "url": None})
            continue
        counts[member.name] += 1
        if member.name != here:
            url = member.endpoints.get("http", "")
            rows.append({"stream": stream, "member": member.name, "url": url if url.startswith(_SCHEMES) else None})
    more = max(0, len(rows) - MOST_ROWS)
    named = [{"member": name, "streams": count} for name, count in counts.items()]
    return {"member": here, "members": named, "streams": rows[:MOST_ROWS], "more": more}
