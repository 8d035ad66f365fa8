"""The owners of all streams in a key-value bucket."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

from trackd.fleet.jetstream_connection import Connection, StoredMessage, WrongSequenceError
from trackd.fleet.jetstream_members import MARKER, OPERATION
from trackd.fleet.names import stream_of, token_of
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import OwnedError, Owner

logger = logging.getLogger(__name__)

_AT_ONCE = 1024  # owners of one request


class Owners:
    """Reads and changes the owners; every change states the revision that it replaces."""

    def __init__(self, connection: Connection, settings: FleetSettings, instance: str) -> None:
        self._connection = connection
        self._instance = instance
        self._bucket = f"KV_trackd_{settings.name}_owners"
        self._prefix = f"$KV.trackd_{settings.name}_owners."
        self._replicas = settings.replicas

    def streams(self) -> list[dict[str, Any]]:
        """Return the configuration of the bucket."""
        return [
            {
                "name": self._bucket, "subjects": [self._prefix + ">"], "num_replicas": self._replicas,
                "max_msgs_per_subject": 1, "storage": "file", "discard": "new", "allow_rollup_hdrs": True,
                "deny_delete": False, "max_msg_size": 65_536,
                "allow_direct": True,
            }
        ]  # fmt: skip

    async def get(self, stream: str) -> tuple[Owner | None, int]:
        """Return the owner of a stream and the revision of its key, 0 where there is none."""
        message = await self._connection.last(self._bucket, self._prefix + token_of(stream))
        return (None, 0) if message is None else (_owner(stream, message), message.sequence)

    async def put(self, stream: str, owner: Owner, revision: int) -> None:
        """Set the owner of a stream.

        Raises:
            OwnedError: the key has another revision by now, and is not this owner's.
        """
        value = json.dumps({"member": owner.member, "instance": owner.instance, "term": owner.term}).encode()
        try:
            await self._connection.publish(self._prefix + token_of(stream), value, revision, {})
        except WrongSequenceError:
            found, _ = await self.get(stream)
            if found != owner:  # else the first try of the same claim was stored, and its answer was lost
                raise OwnedError(f"another member has claimed {stream!r}", found) from None

    async def remove(self, stream: str, term: int) -> None:
        """Remove the owner of a stream, if it is this process with this term."""
        owner, revision = await self.get(stream)
        if owner is None or (owner.instance, owner.term) != (self._instance, term):
            return
        with suppress(WrongSequenceError):
            await self._connection.publish(self._prefix + token_of(stream), b"", revision, {OPERATION: "DEL"})

    async def all(self) -> dict[str, Owner]:
        """Return the owners of all streams."""
        found: dict[str, Owner] = {}
        first = 1
        while messages := await self._connection.batch(self._bucket, self._prefix + ">", first, _AT_ONCE):
            first = messages[-1].sequence + 1
            for message in messages:
                stream = stream_of(message.subject.removeprefix(self._prefix))
                if (owner := _owner(stream, message)) is not None:
                    found[stream] = owner
        return found


def _owner(stream: str, message: StoredMessage) -> Owner | None:
    if message.headers.get(OPERATION) or MARKER in message.headers:
        return None
    try:
        value = json.loads(message.data)
        term = int(value["term"])
        if term < 0:
            raise ValueError("term must be at least 0")
        return Owner(str(value["member"]), str(value["instance"]), term)
    except (ValueError, KeyError, TypeError) as error:
        logger.error("stream=%s: its owner cannot be read, and is taken as none: %s", stream, error)
        return None
