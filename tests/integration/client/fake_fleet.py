"""A fleet of scripted daemons on real sockets: who owns a stream, and what was settled, is in one store beside them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import zmq
from fake_daemon import BLOCK, FakeDaemon

from trackd_client.protocol import (
    Error,
    ErrorCode,
    Event,
    EventName,
    Message,
    Open,
    Opened,
    Reply,
    Request,
    Tracks,
)


@dataclass
class Stored:
    """A stream in the fleet's store."""

    owner: str | None = None
    term: int = 0
    next_seq: int = 0
    settled: list[Tracks] = field(default_factory=list)


class FakeFleet:
    """Members by name, and their store. A member that is killed is still named as an owner until `expire`."""

    def __init__(self, *names: str) -> None:
        self.lock = threading.RLock()
        self.streams: dict[str, Stored] = {}
        self.away = False  # no member reaches the store
        self.members = {name: FakeMember(self, name) for name in names}
        self.placed = names[0]
        self.dead: set[str] = set()  # whose lease has ended

    @property
    def control(self) -> list[str]:
        return [member.endpoints["control"] for member in self.members.values()]

    def stop(self) -> None:
        for member in self.members.values():
            if member._thread.is_alive():
                member.stop()

    def kill(self, name: str) -> None:
        """End a member's sockets; its lease goes on."""
        self.members[name].stop()

    def expire(self, name: str, placed: str) -> None:
        """End a member's lease: its streams are placed at another one."""
        with self.lock:
            self.dead.add(name)
            self.placed = placed

    def stored(self, stream: str) -> Stored:
        return self.streams.setdefault(stream, Stored())

    def place(self, stream: str) -> tuple[str, int]:
        stored = self.stored(stream)
        if stored.owner is not None and stored.owner not in self.dead:
            return stored.owner, stored.term
        return self.placed, 0

    def hand_on(self, stream: str, target: str) -> None:
        """Let the owner hand a stream on, as `fleet.move` does."""
        with self.lock:
            stored = self.stored(stream)
            source = self.members[stored.owner or ""]
            stored.owner, self.placed = None, target

        def tell() -> None:
            moved = source.moved(stream, target, 0)
            source.publish_event(Event(stream, EventName.MOVED, source.epoch, stored.next_seq - 1, moved_detail(moved)))
            if stream in source.owners:
                source.send_to_owner(stream, [moved])
            source.forget(stream)

        source.run(tell)


def moved_detail(error: Error) -> dict[str, Any]:
    return {"member": error.member, "endpoints": dict(error.endpoints or {}), "term": error.term}


class FakeMember(FakeDaemon):
    """A member: it opens a stream that it may claim, and names the place of every other one."""

    def __init__(self, fleet: FakeFleet, name: str) -> None:
        self.fleet, self.name = fleet, name
        self.opens: list[Open] = []
        self.located = 0
        self.stale: tuple[str, int] | None = None  # `locate` and `open` answer with this member and term
        super().__init__(zmq.Context.instance())

    def freeze(self) -> threading.Event:
        """Stop this member's thread, as SIGSTOP does, until the event is set."""
        stopped, wake = threading.Event(), threading.Event()
        self._commands.append(lambda: (stopped.set(), wake.wait(20)))
        assert stopped.wait(5)
        return wake

    def moved(self, stream: str, member: str, term: int) -> Error:
        endpoints = self.fleet.members[member].endpoints
        return Error(
            ErrorCode.MOVED, f"stream {stream!r} is at member {member!r}", stream,
            member=member, endpoints=endpoints, term=term,
        )  # fmt: skip

    def forget(self, stream: str) -> None:
        self.owners.pop(stream, None)
        self.next_seq.pop(stream, None)
        self.settled.pop(stream, None)

    def _replies(self, owner: bytes, message: Message) -> list[Message]:
        stream = getattr(message, "stream", "")
        with self.fleet.lock:
            if isinstance(message, Open):
                self.opens.append(message)
                return [self._opened(message)]
            if stream and stream not in self.next_seq:
                return [self.moved(stream, *self.fleet.place(stream))]
            replies = super()._replies(owner, message)
            if stream in self.next_seq:
                stored = self.fleet.stored(stream)
                stored.next_seq, stored.settled = self.next_seq[stream], list(self.settled[stream])
            return replies

    def _opened(self, message: Open) -> Message:
        stream, fleet = message.stream, self.fleet
        if fleet.away:
            return Error(ErrorCode.MOVED, "this member has no contact to the fleet's store", stream)
        if self.stale is not None:
            return self.moved(stream, *self.stale)
        stored = fleet.stored(stream)
        member, term = fleet.place(stream)
        if member != self.name and not (term == 0 and message.member == self.name):
            return self.moved(stream, member, term)
        if stored.owner != self.name or stream not in self.next_seq:
            stored.owner, stored.term = self.name, stored.term + 1
            self.next_seq[stream], self.settled[stream] = stored.next_seq, list(stored.settled)
        return Opened(stream, self.epoch, stored.next_seq, self.depth, BLOCK)

    def _answer(self, request: Request) -> Reply:
        stream = request.params.get("stream")
        with self.fleet.lock:
            if request.method == "locate":
                self.located += 1
                if self.fleet.away:
                    return Reply(request.id, error=(ErrorCode.MOVED, "the store cannot be reached; ask another member"))
                member, term = self.stale or self.fleet.place(stream)
                return Reply(
                    request.id,
                    {
                        "member": member,
                        "endpoints": self.fleet.members[member].endpoints,
                        "term": term,
                        "owned": term > 0,
                        "fleet": [
                            self.fleet.members[each].endpoints["control"]
                            for each in self.fleet.members
                            if each not in self.fleet.dead
                        ],
                    },
                )
            if stream is not None and stream not in self.settled:
                member, term = self.fleet.place(stream)
                if member != self.name:
                    return Reply(request.id, error=(ErrorCode.MOVED, f"stream {stream!r} is at member {member!r}"))
            return super()._answer(request)


def beat(fleet: FakeFleet, stream: str) -> None:
    """Let the owner of a stream publish a heartbeat."""
    owner = fleet.members[fleet.stored(stream).owner or ""]
    last = fleet.stored(stream).next_seq - 1
    owner.run(lambda: owner.publish_event(Event(stream, EventName.HEARTBEAT, owner.epoch, last)))
