"""The members of a fleet in a key-value bucket whose keys end with their leases."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from trackd.fleet.cancelling import cancelled
from trackd.fleet.jetstream_connection import Connection, StoredMessage, WrongSequenceError
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import AwayError, Member, NameTakenError

logger = logging.getLogger(__name__)

TTL = "Nats-TTL"  # a header: seconds until a message is deleted
OPERATION = "KV-Operation"  # a header of deleted keys
MARKER = "Nats-Marker-Reason"  # a header of the servers' own deletions
_POLL_S = 0.5  # between two looks at all members, at least
_MEMBERS_PER_S = 50  # that a member reads
MOST_MEMBERS = 4096


class Members:
    """Announces this member, and reads all of them."""

    def __init__(self, connection: Connection, settings: FleetSettings, name: str, instance: str) -> None:
        self._connection = connection
        self._lease_s = settings.lease_s
        self._bucket = f"KV_trackd_{settings.name}_members"
        self._prefix = f"$KV.trackd_{settings.name}_members."
        self._replicas = settings.replicas
        self._name, self._instance = name, instance
        self._revision: int | None = None  # of this member's key
        self._unreadable: set[str] = set()
        self._renewals: dict[str, tuple[int, float]] = {}  # by name: the last one, and since when it is known
        self._announced_s = 0.0  # monotonic
        self._watch: asyncio.Task[None] | None = None

    def streams(self) -> list[dict[str, Any]]:
        """Return the configuration of the bucket."""
        return [
            {
                "name": self._bucket, "subjects": [self._prefix + ">"], "num_replicas": self._replicas,
                "max_msgs_per_subject": 1, "storage": "file", "discard": "new", "allow_rollup_hdrs": True,
                "allow_msg_ttl": True, "deny_delete": False, "max_msg_size": 65_536, "max_msgs": MOST_MEMBERS,
                "allow_direct": True,
            }
        ]  # fmt: skip

    async def announce(self, member: Member) -> None:
        """Store this member for the time of its lease."""
        value = json.dumps(
            {
                "instance": member.instance, "endpoints": dict(member.endpoints), "capacity": member.capacity,
                "streams": member.streams, "draining": member.draining, "version": member.version,
            }
        ).encode()  # fmt: skip
        headers = {TTL: f"{self._lease_s}s"}
        subject = self._prefix + member.name
        for _ in range(3):
            if self._revision is not None:
                with suppress(WrongSequenceError):
                    self._revision = await self._connection.publish(subject, value, self._revision, headers)
                    self._note_contact()
                    return
            last = await self._connection.last(self._bucket, subject)
            found = None if last is None else self._read(last)
            if found is not None and found.instance != self._instance:
                raise NameTakenError(f"its instance is {found.instance}, at {found.endpoints.get('control')}")
            self._revision = 0 if last is None else last.sequence
        raise AwayError(f"the key of member {member.name!r} changes all the time")

    def _note_contact(self) -> None:
        """Note a renewal. After a time without contact nothing is known of the other members' renewals meanwhile."""
        now = time.monotonic()
        if now - self._announced_s > self._lease_s / 2:
            self._renewals.clear()
        self._announced_s = now

    def _is_overdue(self, name: str, revision: int) -> bool:
        """Whether a member has not renewed its lease in time.

        The servers delete a key 0.5 to 2 s after its time. This member notes by its own clock since when it knows a
        renewal, which is earlier.
        """
        now = time.monotonic()
        known, since = self._renewals.get(name, (-1, now))
        if revision != known:
            self._renewals[name] = (revision, now)
            return False
        return name != self._name and now - since >= self._lease_s

    async def leave(self) -> None:
        """Remove this member."""
        if self._revision is None:
            return
        with suppress(WrongSequenceError):  # it has ended, or another process has the name
            await self._connection.publish(
                self._prefix + self._name, b"", self._revision, {OPERATION: "DEL", TTL: f"{self._lease_s}s"}
            )
        self._revision = None

    async def get(self, name: str) -> Member | None:
        """Return a member, as the servers' leader has it; None where it does not live."""
        message = await self._connection.last(self._bucket, self._prefix + name)
        return None if message is None else self._read(message)

    async def all(self) -> dict[str, Member]:
        """Return the living members by name."""
        found: dict[str, Member] = {}
        for message in await self._connection.batch(self._bucket, self._prefix + ">", 1, MOST_MEMBERS):
            member = self._read(message)
            if member is not None:
                found[member.name] = member
        return found

    def _read(self, message: StoredMessage) -> Member | None:
        name = message.subject.removeprefix(self._prefix)
        if message.headers.get(OPERATION) or MARKER in message.headers:
            return None
        member = _member(name, message)
        if member is not None and self._is_overdue(name, message.sequence):
            return None
        if member is None and name not in self._unreadable and len(self._unreadable) < MOST_MEMBERS:
            self._unreadable.add(name)
            logger.error("the key of member %s cannot be read, and is left out: %r", name[:64], message.data[:100])
        return member

    async def watch(self, changed: Callable[[dict[str, Member]], None]) -> None:
        """Call `changed` with the living members, now and from time to time.

        Whether the owner of a stream lives is asked for itself. So the interval can grow with the number of members:
        each of them reads all others.
        """
        members = await self.all()
        changed(members)
        self._watch = asyncio.get_running_loop().create_task(self._look(changed, len(members)))

    async def _look(self, changed: Callable[[dict[str, Member]], None], n: int) -> None:
        while True:
            await asyncio.sleep(max(_POLL_S, n / _MEMBERS_PER_S))
            with suppress(AwayError):
                members = await self.all()
                n = len(members)
                changed(members)

    async def stop(self) -> None:
        """End the watch."""
        if self._watch is not None:
            await cancelled({self._watch})


def _member(name: str, message: StoredMessage) -> Member | None:
    """Return a member; None where its key cannot be read."""
    try:
        value = json.loads(message.data)
        endpoints = {str(key): str(each)[:256] for key, each in value["endpoints"].items()}
        return Member(
            name, str(value["instance"]), endpoints, int(value["capacity"]), int(value["streams"]),
            bool(value["draining"]), str(value.get("version", "")),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
