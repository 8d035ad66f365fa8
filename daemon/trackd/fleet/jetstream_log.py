"""The logs of all streams: one subject for each stream, in one JetStream stream."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from bisect import insort
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from trackd.fleet.jetstream_connection import Connection, RefusedError, StoredMessage, WrongSequenceError
from trackd.fleet.names import token_of
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import AwayError, FencedError

logger = logging.getLogger(__name__)

TERM, INSTANCE, PIECES = "Trackd-Term", "Trackd-Instance", "Trackd-Pieces"
APPEND = "Trackd-Append"  # a header: the sequence that a message follows, and the checksum of its data
BASE = "Trackd-Base"  # a header: the sequence from which a takeover must read; 0: that of the message itself
APPEND_S = 2.0  # until an append is tried again
READ_S = 10.0  # for a whole log
MOST_BYTES = 256 * 1024 * 1024  # of one message, in all its pieces
_HEADER_BYTES = 1024
_PIECES_AT_ONCE = 8
_BATCH = 1024  # messages that a read asks for at once
_PAUSE_S = 0.05
_DAMAGED = b"\0"  # no message of a member


@dataclass(frozen=True, slots=True)
class LastMessage:
    """What the last message of a stream's log says."""

    sequence: int = 0  # 0: there is none
    term: int = 0
    base: int = 1  # the sequence from which a takeover must read


class Log:
    """Appends to and reads the logs; every append states the last sequence of its subject."""

    def __init__(self, connection: Connection, settings: FleetSettings, instance: str) -> None:
        self._connection = connection
        self._instance = instance
        self._replicas = settings.replicas
        self._name = f"TRACKD_{settings.name}_LOG"
        self._prefix = f"trackd.{settings.name}.log."
        self._pieces = f"TRACKD_{settings.name}_PIECES"
        self._pieces_prefix = f"trackd.{settings.name}.piece."
        # By stream, of each message in pieces: its sequence, and the first and last of its pieces.
        self._stored_pieces: dict[str, list[tuple[int, int, int]]] = {}

    def streams(self) -> list[dict[str, Any]]:
        """Return the configurations of the logs and of their pieces."""
        common = {
            "num_replicas": self._replicas, "storage": "file", "discard": "new", "allow_direct": True,
            "duplicate_window": 100_000_000,
        }  # fmt: skip
        return [
            {"name": self._name, "subjects": [self._prefix + "*"], **common},
            {"name": self._pieces, "subjects": [self._pieces_prefix + ">"], **common},
        ]

    async def last(self, stream: str) -> LastMessage:
        """Return what a stream's last message says, as the leader has it."""
        message = await self._connection.last(self._name, self._prefix + token_of(stream))
        if message is None:
            return LastMessage()
        return LastMessage(message.sequence, max(0, _term(message.headers)), _base(message))

    async def claim(self, stream: str, term: int, last: LastMessage) -> int | None:
        """Append a claim; return its sequence, or None where the last message is another one."""
        try:
            sequence = await self._publish(stream, term, last.sequence, b"", {BASE: str(last.base)})
        except FencedError:
            return None
        self._stored_pieces.pop(stream, None)
        return sequence

    async def append(self, stream: str, term: int, after: int, data: bytes, base: int) -> int:
        """Append a message, in pieces if it is large."""
        if len(data) > MOST_BYTES:
            raise ValueError(f"a message of a log has at most {MOST_BYTES} bytes; got {len(data)}")
        await self._connection.ready()
        room = self._connection.max_payload - _HEADER_BYTES
        if len(data) <= room:
            return await self._publish(stream, term, after, data, {BASE: str(base)})
        number, pieces = secrets.token_hex(8), [data[at : at + room] for at in range(0, len(data), room)]
        subject = f"{self._pieces_prefix}{token_of(stream)}.{number}."
        stored: list[int] = []
        for first in range(0, len(pieces), _PIECES_AT_ONCE):
            some = list(enumerate(pieces))[first : first + _PIECES_AT_ONCE]
            stored += await asyncio.gather(*(self._put_piece(f"{subject}{at}", piece) for at, piece in some))
        about = {"id": number, "n": len(pieces), "bytes": len(data), "crc32": crc32(data), "first": min(stored)}
        sequence = await self._publish(stream, term, after, b"", {PIECES: json.dumps(about), BASE: str(base)})
        self._note_pieces(stream, sequence, stored)
        return sequence

    async def _put_piece(self, subject: str, piece: bytes) -> int:
        """Store a piece; return its sequence in the stream of the pieces."""
        try:
            return await self._connection.publish(subject, piece, 0, {}, APPEND_S)
        except WrongSequenceError:  # an earlier try was stored
            last = await self._connection.last(self._pieces, subject)
            if last is None:
                raise AwayError(f"the servers do not agree on the piece {subject}") from None
            return last.sequence

    async def _publish(self, stream: str, term: int, after: int, data: bytes, headers: dict[str, str]) -> int:
        about = f"{after}-{crc32(headers.get(PIECES, '').encode(), crc32(data)):08x}"
        own = {TERM: str(term), INSTANCE: self._instance, APPEND: about, **headers}
        subject = self._prefix + token_of(stream)
        deadline = time.monotonic() + 2 * APPEND_S
        while True:
            try:
                return await self._connection.publish(subject, data, after, own, APPEND_S)
            except RefusedError:
                raise
            except AwayError:
                # It may be stored, or be stored later. Only a repetition, or what comes after it, shows that.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)
            except WrongSequenceError:
                last = await self._connection.last(self._name, subject)
                if last is not None and last.sequence > after and _is_own(last, own):
                    return last.sequence  # an earlier try
                if last is not None and last.sequence > after:
                    who = last.headers.get(INSTANCE, "no member")
                    raise FencedError(
                        f"the last message of {stream!r} is {last.sequence}, of instance {who} with term "
                        f"{last.headers.get(TERM)}; this append of term {term} follows {after}"
                    ) from None
                if time.monotonic() > deadline:
                    raise AwayError(f"the servers do not agree on the last message of {stream!r}") from None
                await asyncio.sleep(_PAUSE_S)

    async def read(self, stream: str, up_to: int, first: int) -> AsyncIterator[tuple[int, int, bytes]]:
        """Read a stream's messages from a sequence to another one, oldest first."""
        subject = self._prefix + token_of(stream)
        deadline = time.monotonic() + READ_S
        while first <= up_to:
            try:
                messages = await self._connection.batch(self._name, subject, first, _BATCH)
            except AwayError as error:
                logger.debug("stream=%s: a read of its log is repeated: %s", stream, error)
                messages = []
            for message in messages:
                if message.sequence > up_to:
                    return
                first = message.sequence + 1
                yield message.sequence, _term(message.headers), await self._whole(stream, message)
            if not messages:
                if time.monotonic() > deadline:
                    raise AwayError(f"the log of {stream!r} could not be read up to {up_to} within {READ_S:g} s")
                await asyncio.sleep(_PAUSE_S)  # until the copy that was read has the last messages too

    async def _whole(self, stream: str, message: StoredMessage) -> bytes:
        """Return the data of a message; of one whose pieces are missing or damaged, data that no member writes."""
        if PIECES not in message.headers:
            return message.data
        try:
            about = json.loads(message.headers[PIECES])
            first, n, nbytes = int(about["first"]), int(about["n"]), int(about["bytes"])
            if not 0 < nbytes <= MOST_BYTES or not 0 < n <= nbytes:
                raise ValueError("its size is not valid")
            subject = f"{self._pieces_prefix}{token_of(stream)}.{about['id']}.*"
            checksum = int(about["crc32"])
        except (ValueError, KeyError, TypeError):
            return _DAMAGED
        pieces: dict[str, StoredMessage] = {}
        deadline = time.monotonic() + APPEND_S
        while len(pieces) < n and time.monotonic() < deadline:
            found = await self._connection.batch(self._pieces, subject, first, _BATCH)
            pieces |= {piece.subject.rpartition(".")[2]: piece for piece in found}
            if not found:
                await asyncio.sleep(_PAUSE_S)
            else:
                first = found[-1].sequence + 1
        whole = b"".join(pieces[str(at)].data for at in range(n) if str(at) in pieces)
        if len(whole) != nbytes or crc32(whole) != checksum:
            return _DAMAGED
        self._note_pieces(stream, message.sequence, [piece.sequence for piece in pieces.values()])
        return whole

    def _note_pieces(self, stream: str, sequence: int, pieces: list[int]) -> None:
        """Note of which sequences the pieces of a message are, so that `trim` can delete them."""
        stored, found = self._stored_pieces.setdefault(stream, []), (sequence, min(pieces), max(pieces))
        if found not in stored:  # a message may be read twice
            insort(stored, found)

    async def trim(self, stream: str, before: int) -> None:
        """Delete a stream's messages with a lower sequence, and their pieces."""
        token = token_of(stream)
        await self._connection.api(f"STREAM.PURGE.{self._name}", {"filter": self._prefix + token, "seq": before})
        stored, end = self._stored_pieces.get(stream), None
        while stored and stored[0][0] < before:
            end = stored.pop(0)[2] + 1
        if end is not None:
            first = min([end, *(first for _, first, _ in stored or ())])
            request = {"filter": f"{self._pieces_prefix}{token}.>", "seq": first}
            await self._connection.api(f"STREAM.PURGE.{self._pieces}", request)


def _is_own(message: StoredMessage, own: Mapping[str, str]) -> bool:
    return all(message.headers.get(name) == own[name] for name in (TERM, INSTANCE, APPEND))


def _term(headers: Mapping[str, str]) -> int:
    """Return the term of a message; −1 where it is not of a member."""
    try:
        term = int(headers.get(TERM, "-1"))
    except ValueError:
        return -1
    return term if term > 0 and headers.get(INSTANCE) else -1


def _base(message: StoredMessage) -> int:
    """Return the sequence from which a takeover must read; 1, for the whole log, where a message does not say it."""
    if _term(message.headers) < 0:
        return 1
    try:
        base = int(message.headers.get(BASE, "1"))
    except ValueError:
        return 1
    return (base or message.sequence) if 0 <= base <= message.sequence else 1
