"""The member of a fleet that has a stream, as a daemon states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackd_client.protocol import ProtocolError
from trackd_client.protocol import fields as read


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream is, or should be opened."""

    member: str
    ingest: str  # the member's endpoints
    tracks: str
    control: str
    term: int  # of the ownership; 0: no living member owns the stream, and this one should get it

    @property
    def owned(self) -> bool:
        """Whether the member owns the stream."""
        return self.term > 0


def read_place(stated: Mapping[str, Any]) -> Place | None:
    """Return the place in a `locate` result, or in the detail of a `moved` event; None if it has none.

    Raises:
        ProtocolError: `bad_message`, if a value is not valid or an endpoint is missing.
    """
    if stated.get("member") is None or stated.get("endpoints") is None:
        return None
    endpoints = read.endpoints(stated)
    return Place(
        member=read.member_name(stated),
        ingest=read.text(endpoints, "ingest"),
        tracks=read.text(endpoints, "tracks"),
        control=read.text(endpoints, "control"),
        term=read.integer(stated, "term", 0) if stated.get("term") is not None else 0,
    )


def stated_place(stated: Mapping[str, Any]) -> Place | None:
    """Return what `read_place` does, and None for a value that is not valid."""
    try:
        return read_place(stated)
    except ProtocolError:
        return None
