"""`locate` and `fleet.*`: where streams are, and which member gets them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from trackd.fleet.ownership import Place
from trackd.fleet.placement import rebalance as moves_to_balance
from trackd.fleet.store import AwayError, Member
from trackd.server.access.grants import Right
from trackd.server.control.call import Call, unknown_stream
from trackd.server.fleet_streams import FleetStreams
from trackd.server.moved import moved_error
from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.protocol import fields as read


def _fleet(call: Call) -> FleetStreams:
    fleet = call.daemon.streams.fleet
    if fleet is None:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "this daemon is a member of no fleet: daemon.fleet is not set")
    return fleet


def _answer_with(call: Call, fleet: FleetStreams, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Answer with the result of a coroutine that runs on the fleet's thread."""

    async def run() -> None:
        try:
            result = await work()
        except AwayError as error:
            away = ProtocolError(ErrorCode.MOVED, f"the fleet's store cannot be reached: {error}; ask another member")
            fleet.on_io(lambda: call.answer(None, away))
        except Exception as error:
            fault = error
            fleet.on_io(lambda: call.answer(None, fault))
        else:
            fleet.on_io(lambda: call.answer(result))

    fleet.log.submit(run)


def locate(call: Call) -> None:
    """Answer with the member that has a stream, or should get it, and with the control endpoints of all members."""
    fleet = _fleet(call)
    name = read.stream_name(call.params)
    call.grant.require_any((Right.PUBLISH, Right.SUBSCRIBE, Right.CONTROL), name)

    async def work() -> dict[str, Any]:
        if not fleet.membership.has_lease:
            raise AwayError("this member has no lease")
        place: Place = await fleet.ownership.place(name)
        if place.member is None:
            raise ProtocolError(
                ErrorCode.UNKNOWN_STREAM, f"nobody has stream {name!r}, and no living member takes streams", stream=name
            )
        return {
            "member": place.member.name,
            "endpoints": dict(place.member.endpoints),
            "term": place.term,
            "owned": place.term > 0,
            "fleet": fleet.membership.roster.control_endpoints(),
        }

    _answer_with(call, fleet, work)


def status(call: Call) -> None:
    """Answer with this member, all living members, and the owner of each stream."""
    fleet = _fleet(call)
    call.grant.require_any((Right.SUBSCRIBE, Right.CONTROL))

    async def work() -> dict[str, Any]:
        owners = await fleet.log.store.owners()
        members = await fleet.log.store.members()
        rows: list[dict[str, Any]] = []
        for name, owner in sorted(owners.items()):
            alive = owner.member in members and members[owner.member].instance == owner.instance
            rows.append({"stream": name, "member": owner.member, "term": owner.term, "alive": alive})
        figures = fleet.log.figures
        return {
            "member": fleet.membership.me.name,
            "lease": fleet.membership.has_lease,
            "members": [_row(member) for _, member in sorted(members.items())],
            "streams": [row for row in rows if call.grant.covers(str(row["stream"]))],
            "counts": {
                "claims": figures.claims, "takeovers": figures.takeovers, "fence_refusals": figures.fence_refusals,
                "moved": figures.moved, "appends": figures.appends, "log_bytes": figures.log_bytes,
            },
        }  # fmt: skip

    _answer_with(call, fleet, work)


def _row(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "endpoints": dict(member.endpoints),
        "capacity": member.capacity,
        "streams": member.streams,
        "draining": member.draining,
        "version": member.version,
    }


def drain(call: Call) -> None:
    """Hand on all streams of this member, then end the daemon."""
    fleet = _fleet(call)
    call.grant.require_everywhere("fleet.drain")
    call.answer({"member": fleet.membership.me.name, "streams": len(call.daemon.sessions)})
    call.daemon.drain()


def move(call: Call) -> None:
    """Hand a stream of this member on to another one."""
    fleet = _fleet(call)
    name = read.stream_name(call.params)
    call.grant.require_any((Right.CONTROL,), name)
    wanted = read.text(call.params, "member")

    async def work() -> dict[str, Any]:
        target = await fleet.log.store.member(wanted)
        if target is None or target.draining:
            living = ", ".join(sorted(await fleet.log.store.members()))
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"member must be a living one that is not draining; got {wanted!r}; living: {living}",
            )
        place = await fleet.ownership.place(name)
        if not place.here or place.term == 0:
            raise moved_error(name, place) if place.term else unknown_stream(name)

        def hand_on() -> None:
            session = call.daemon.sessions.get(name)
            if session is not None and wanted != fleet.membership.me.name:
                fleet.hand_on(session, target)

        fleet.on_io(hand_on)
        return {"stream": name, "member": wanted}

    _answer_with(call, fleet, work)


def rebalance(call: Call) -> None:
    """Hand on the streams of this member that are beyond its share; answer with them."""
    fleet = _fleet(call)
    call.grant.require_everywhere("fleet.rebalance")
    here = fleet.membership.me.name

    async def work() -> list[dict[str, str]]:
        owners, members = await fleet.log.store.owners(), await fleet.log.store.members()
        moves = [each for each in moves_to_balance(owners, members.values()) if each.source == here]

        def hand_on() -> None:
            for each in moves:
                session = call.daemon.sessions.get(each.stream)
                if session is not None:
                    fleet.hand_on(session, members[each.target])

        fleet.on_io(hand_on)
        return [{"stream": each.stream, "member": each.target} for each in moves]

    _answer_with(call, fleet, work)
