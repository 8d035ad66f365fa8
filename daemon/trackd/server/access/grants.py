"""The grant of a client's key: for which streams it has which rights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NoReturn

from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.transport.curve import KeyFileError

_PATTERN = re.compile(r"[A-Za-z0-9._\-*?]{1,128}")
_TOPIC = re.compile(rb"(?:tracks|events)/([A-Za-z0-9._-]{0,128})(/?)")
EVERY_STREAM = "*"


class Right(StrEnum):
    """What a key may do with a stream."""

    PUBLISH = "publish"  # open it, send frames, close it
    SUBSCRIBE = "subscribe"  # read its tracks, events and history
    CONTROL = "control"  # configure, reset and close it, also where another client owns it


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of one key.

    Attributes:
        name: the client's name, for people.
        key: its public key in Z85; "" where there is no CURVE.
        streams: patterns of stream names: `*` stands for any characters, `?` for any one.
        rights: the rights for these streams.
    """

    name: str
    key: str
    streams: tuple[str, ...]
    rights: frozenset[Right]

    @property
    def everywhere(self) -> bool:
        """Whether the grant covers every possible stream."""
        return EVERY_STREAM in self.streams

    def covers(self, stream: str) -> bool:
        """Whether the rights apply to a stream."""
        return EVERY_STREAM in self.streams or _matcher(self.streams).fullmatch(stream) is not None

    def may(self, right: Right, stream: str) -> bool:
        """Whether the key has a right for a stream."""
        return right in self.rights and self.covers(stream)

    def may_subscribe(self, topic: bytes) -> bool:
        """Whether the key may read every topic that begins with this prefix."""
        if Right.SUBSCRIBE not in self.rights:
            return False
        if self.everywhere:
            return True
        match = _TOPIC.fullmatch(topic)
        if match is None:
            return False
        stream = match[1].decode()
        if match[2]:
            return self.covers(stream)
        # The prefix matches every stream whose name begins with it. Only a pattern with a single * at its end covers
        # all of these.
        return any(
            pattern.endswith("*") and not set("*?") & set(pattern[:-1]) and stream.startswith(pattern[:-1])
            for pattern in self.streams
        )

    def reads_more_than(self, other: Grant | None) -> bool:
        """Whether this grant allows reads that another grant of the same key does not; None: no grant."""
        if Right.SUBSCRIBE not in self.rights:
            return False
        if other is None or Right.SUBSCRIBE not in other.rights:
            return True
        # Patterns are compared as texts, not by the names that they match: a pattern that `other` lacks counts as more.
        return not (other.everywhere or set(self.streams) <= set(other.streams))

    def require(self, right: Right, stream: str, seq: int | None = None) -> None:
        """Check that the key has a right for a stream.

        Raises:
            ProtocolError: it has not (`forbidden`).
        """
        if right not in self.rights:
            self._forbid(f"key {self.name!r} has no right to {right}", stream, seq)
        if not self.covers(stream):
            self._forbid(f"key {self.name!r} is for streams {', '.join(self.streams)}; got {stream!r}", stream, seq)

    def require_any(self, rights: Iterable[Right], stream: str | None = None) -> None:
        """Check that the key has at least one of these rights, for this stream if one is given.

        Raises:
            ProtocolError: it has none of them (`forbidden`).
        """
        wanted = tuple(rights)
        if not self.rights.intersection(wanted):
            self._forbid(f"key {self.name!r} has no right to {' or '.join(wanted)}", stream)
        if stream is not None and not self.covers(stream):
            self._forbid(f"key {self.name!r} is for streams {', '.join(self.streams)}; got {stream!r}", stream)

    def require_everywhere(self, what: str) -> None:
        """Check that the key may control every stream, as requests that concern the whole daemon need.

        Raises:
            ProtocolError: it may not (`forbidden`).
        """
        if Right.CONTROL not in self.rights or not self.everywhere:
            self._forbid(f"{what} concerns all streams and needs control over *; key {self.name!r} has less")

    def _forbid(self, why: str, stream: str | None = None, seq: int | None = None) -> NoReturn:
        raise ProtocolError(
            ErrorCode.FORBIDDEN,
            f"{why}; the rights are in the key's file in security.authorized_clients_dir",
            stream=stream,
            seq=seq,
        )


UNRESTRICTED = Grant("anybody", "", (EVERY_STREAM,), frozenset(Right))


def grant_of(metadata: Mapping[str, str], key: bytes, name: str) -> Grant:
    """Read a grant from the metadata of a key file.

    Args:
        metadata: `streams` and `may`, lists with commas; `name` if it differs from the file's name.
        key: the public key, Z85.
        name: the file's name.

    Raises:
        KeyFileError: `streams` or `may` is missing, or has an invalid value.
    """
    streams = parse_streams(_listed(metadata, "streams"))
    return Grant(metadata.get("name", name), key.decode(), streams, parse_rights(_listed(metadata, "may")))


def parse_streams(words: Iterable[str]) -> tuple[str, ...]:
    """Check patterns of stream names.

    Raises:
        KeyFileError: one is not a valid pattern.
    """
    patterns = tuple(words)
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise KeyFileError(f"streams must be names of letters, digits and . _ - with * and ?; got {pattern!r}")
    return patterns


def parse_rights(words: Iterable[str]) -> frozenset[Right]:
    """Check names of rights.

    Raises:
        KeyFileError: one is not the name of a right.
    """
    try:
        return frozenset(Right(word) for word in words)
    except ValueError as error:
        raise KeyFileError(f"may must be of {', '.join(Right)}; {error}") from None


def _listed(metadata: Mapping[str, str], name: str) -> list[str]:
    if name not in metadata:
        raise KeyFileError(f'no {name} = "…" below "metadata": a key without it has no rights')
    return split_words(metadata[name])


def split_words(text: str) -> list[str]:
    """Split a text at its commas; blank words are left out."""
    return [word.strip() for word in text.split(",") if word.strip()]


@lru_cache(maxsize=1024)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(p).replace(r"\*", ".*").replace(r"\?", ".") for p in patterns) or r"(?!)")
