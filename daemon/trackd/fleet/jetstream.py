"""The store of a fleet on NATS JetStream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from trackd.fleet.check import check_servers
from trackd.fleet.jetstream_connection import Connection, RefusedError
from trackd.fleet.jetstream_files import Files
from trackd.fleet.jetstream_log import Log
from trackd.fleet.jetstream_members import Members
from trackd.fleet.jetstream_owners import Owners
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import Claimed, Member, OwnedError, Owner
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_NOT_FOUND, _EXISTS, _TOO_FEW = 10059, 10058, (10005, 10074)
_CREATE_S = 5.0


class JetStreamStore:
    """The store of one member, as `FleetStore` describes it.

    Args:
        settings: of the fleet.
        member: this member's name.
        instance: of this process.
    """

    def __init__(self, settings: FleetSettings, member: str, instance: str) -> None:
        self._settings = settings
        self._connection = Connection(settings, f"trackd {settings.name} {member}")
        self._members = Members(self._connection, settings, member, instance)
        self._owners = Owners(self._connection, settings, instance)
        self._log = Log(self._connection, settings, instance)
        self._files = Files(self._connection, settings)

    async def open(self) -> None:
        """Connect, check the servers, and create what is missing."""
        await self._connection.ready()
        await check_servers(self._connection, self._settings)
        for part in (self._members, self._owners, self._log, self._files):
            for configuration in part.streams():
                await self._create(configuration)

    async def _create(self, wanted: dict[str, Any]) -> None:
        name = wanted["name"]
        try:
            found = (await self._connection.api(f"STREAM.INFO.{name}", timeout_s=_CREATE_S))["config"]
        except RefusedError as error:
            if error.code != _NOT_FOUND:
                raise
            try:
                found = (await self._connection.api(f"STREAM.CREATE.{name}", wanted, _CREATE_S))["config"]
            except RefusedError as refused:
                if refused.code in _TOO_FEW:
                    raise ConfigError(
                        f"daemon.fleet.replicas is {wanted['num_replicas']}, and the servers cannot hold as many: "
                        f"{refused.text}; give the cluster as many servers with JetStream, or fewer replicas"
                    ) from None
                if refused.code != _EXISTS:  # else another member has just created it otherwise
                    raise
                found = (await self._connection.api(f"STREAM.INFO.{name}", timeout_s=_CREATE_S))["config"]
        if found.get("num_replicas") != wanted["num_replicas"]:
            raise ConfigError(
                f"daemon.fleet.replicas is {wanted['num_replicas']}, but the stream {name} of fleet "
                f"{self._settings.name!r} has {found.get('num_replicas')}; give each member the same"
            )

    async def close(self) -> None:
        """Close the connection."""
        await self._members.stop()
        await self._connection.close()

    async def announce(self, member: Member) -> None:
        """Store this member for the time of the lease."""
        await self._members.announce(member)

    async def leave(self) -> None:
        """Remove this member."""
        await self._members.leave()

    async def members(self) -> dict[str, Member]:
        """Return the living members by name."""
        return await self._members.all()

    async def member(self, name: str) -> Member | None:
        """Return a living member, as the leader of the servers has it; None where it does not live."""
        return await self._members.get(name)

    async def watch_members(self, changed: Callable[[dict[str, Member]], None]) -> None:
        """Call `changed` with all living members, now and after each change."""
        await self._members.watch(changed)

    async def locate(self, stream: str) -> Owner | None:
        """Return the owner of a stream."""
        return (await self._owners.get(stream))[0]

    async def owners(self) -> dict[str, Owner]:
        """Return the owners of all streams."""
        return await self._owners.all()

    async def claim(self, stream: str, member: Member, seen: Owner | None) -> Claimed:
        """Become the owner of a stream, and write the claim into its log."""
        owner, revision = await self._owners.get(stream)
        mine = owner is not None and (owner.member, owner.instance) == (member.name, member.instance)
        if owner != seen and not mine:
            raise OwnedError(f"{stream!r} has the owner {owner}, and not {seen} any more", owner)
        last = await self._log.last(stream)
        term = max(last.term, owner.term if owner is not None else 0) + 1
        await self._owners.put(stream, Owner(member.name, member.instance, term), revision)
        for _ in range(20):
            claimed = await self._log.claim(stream, term, last)
            if claimed is not None:
                return Claimed(term, claimed, last.base)
            last = await self._log.last(stream)  # the former owner has appended meanwhile
            if last.term >= term:
                raise OwnedError(f"another member has claimed {stream!r} in the meantime", None)
            await asyncio.sleep(0)
        raise OwnedError(f"the former owner of {stream!r} appends too fast; try again", owner)

    async def release(self, stream: str, term: int) -> None:
        """Give a stream up."""
        await self._owners.remove(stream, term)

    async def append(self, stream: str, term: int, after: int, data: bytes, base: int = 1) -> int:
        """Append a message."""
        return await self._log.append(stream, term, after, data, base)

    def read(self, stream: str, up_to: int, first: int = 1) -> AsyncIterator[tuple[int, int, bytes]]:
        """Read a stream's messages from a sequence to another one."""
        return self._log.read(stream, up_to, first)

    async def trim(self, stream: str, before: int) -> None:
        """Delete a stream's messages with a lower sequence."""
        await self._log.trim(stream, before)

    async def put_file(self, name: str, data: bytes) -> None:
        """Store a file that all members may read."""
        await self._files.put(name, data)

    async def get_file(self, name: str) -> bytes | None:
        """Return a file; None where there is none."""
        return await self._files.get(name)

    async def files(self) -> list[str]:
        """Return the names of all files."""
        return await self._files.names()
