"""Checked reads of a header's keys: a key that is missing or of a wrong type raises a `bad_message` that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from trackd_client.excerpt import excerpt
from trackd_client.protocol.errors import bad_message

Header = Mapping[str, Any]
E = TypeVar("E", bound=StrEnum)

STREAM_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
SESSION_LETTERS = 64
MEMBER_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
ENDPOINTS = ("ingest", "tracks", "control", "http")  # of a member of a fleet
ENDPOINT_LETTERS = 256
INT64_MAX = 2**63 - 1
_INTEGER, _TEXT = frozenset({int}), frozenset({str})


def integer(header: Header, key: str, low: int = -INT64_MAX, high: int = INT64_MAX) -> int:
    """The integer under `key`, from `low` to `high`."""
    value = header.get(key)
    if type(value) is not int:
        raise bad_message(f"{key} must be an integer; got {_shown(header, key)}")
    if not low <= value <= high:
        raise bad_message(f"{key} must be from {low} to {high}; got {value}")
    return value


def text(header: Header, key: str) -> str:
    """The string under `key`."""
    value = header.get(key)
    if not isinstance(value, str):
        raise bad_message(f"{key} must be a string; got {_shown(header, key)}")
    return value


def flag(header: Header, key: str) -> bool:
    """The boolean under `key`, false if it is absent."""
    value = header.get(key, False)
    if not isinstance(value, bool):
        raise bad_message(f"{key} must be a boolean; got {_shown(header, key)}")
    return value


def mapping(header: Header, key: str, *, optional: bool = False) -> dict[str, Any]:
    """The map under `key`; with `optional`, empty if it is absent or null."""
    value = header.get(key)
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise bad_message(f"{key} must be a map; got {_shown(header, key)}")
    return value


def integers(header: Header, key: str) -> tuple[int, ...]:
    """The list of integers under `key`, empty if it is absent."""
    value = header.get(key)
    if value == [] or (value is None and key not in header):
        return ()
    if type(value) is not list or not _INTEGER.issuperset(map(type, value)):
        raise bad_message(f"{key} must be a list of integers; got {_shown(header, key)}")
    return tuple(value)


def texts(header: Header, key: str) -> tuple[str, ...]:
    """The list of strings under `key`, empty if it is absent."""
    value = header.get(key)
    if value == [] or (value is None and key not in header):
        return ()
    if type(value) is not list or not _TEXT.issuperset(map(type, value)):
        raise bad_message(f"{key} must be a list of strings; got {_shown(header, key)}")
    return tuple(value)


def choice(header: Header, key: str, values: type[E]) -> E:
    """The member of a closed set under `key`."""
    member: E | None = _members(values).get(text(header, key))
    if member is None:
        raise bad_message(f"{key} must be one of {', '.join(values)}; got {_shown(header, key)}")
    return member


@cache
def _members(values: type[E]) -> dict[str, E]:
    """The members by their text on the wire: calling the `Enum` takes several times as long."""
    return {str(member): member for member in values}


def stream_name(header: Header) -> str:
    """The name of the stream that the message is about."""
    value = text(header, "stream")
    if not STREAM_NAME.fullmatch(value):
        raise bad_message(
            f"stream must be 1 to 128 of letters, digits, '.', '_' and '-'; got {_shown(header, 'stream')}"
        )
    return value


def session_token(header: Header) -> str:
    """The client's name of a session."""
    value = text(header, "session")
    if not 1 <= len(value) <= SESSION_LETTERS or not value.isprintable():
        raise bad_message(f"session must be 1 to {SESSION_LETTERS} printable letters; got {_shown(header, 'session')}")
    return value


def member_name(header: Header) -> str:
    """The name of a member of a fleet."""
    value = text(header, "member")
    if not MEMBER_NAME.fullmatch(value):
        raise bad_message(
            f"member must be 1 to 128 of letters, digits, '.', '_' and '-'; got {_shown(header, 'member')}"
        )
    return value


def endpoints(header: Header) -> dict[str, str]:
    """The endpoints of a member of a fleet: those of `ENDPOINTS` that are there; other keys are ignored."""
    values = mapping(header, "endpoints")
    found: dict[str, str] = {}
    for key in ENDPOINTS:
        if values.get(key) is None:
            continue
        value = found[key] = text(values, key)
        if not 1 <= len(value) <= ENDPOINT_LETTERS or not value.isprintable():
            raise bad_message(
                f"endpoints.{key} must be 1 to {ENDPOINT_LETTERS} printable letters; got {_shown(values, key)}"
            )
    return found


def _shown(header: Header, key: str) -> str:
    if key not in header:
        return "nothing"
    return excerpt(header[key])
