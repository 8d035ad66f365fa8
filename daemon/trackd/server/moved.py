"""The error that sends a client to another member of the fleet."""

from __future__ import annotations

from trackd.fleet.ownership import Place
from trackd_client.protocol import ErrorCode, ProtocolError


def moved_error(stream: str, place: Place | None) -> ProtocolError:
    """Return the error that sends a client to the member that has a stream, or should get it."""
    if place is None or place.member is None:
        return ProtocolError(
            ErrorCode.MOVED,
            f"this member cannot say who has stream {stream!r}, since it has no contact to the fleet's store, or no "
            "living member takes streams; ask another member",
            stream=stream,
        )
    member = place.member
    text = f"stream {stream!r} is at member {member.name!r}, {member.endpoints.get('ingest')}; open it there"
    return ProtocolError(
        ErrorCode.MOVED, text, stream=stream, member=member.name, endpoints=member.endpoints, term=place.term
    )
