"""How a stream of a fleet is located, and a request sent to its owner: steps, without I/O, clocks and threads.

A generator yields what to do next. Whoever runs it sends the result of an `Ask` back, or throws its `TrackdError`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from trackd_client.errors import Timeout, TrackdError, Unreachable
from trackd_client.fleet.directory import MOST_MEMBERS, Directory
from trackd_client.fleet.place import Place
from trackd_client.protocol import ErrorCode
from trackd_client.replies import StreamStatus, read_status
from trackd_client.requests import READ_ONLY

LOCATE_S = 1.0  # for one member's answer to `locate`
READ_S = 2.0  # for one member's answer to a request that changes nothing; then the stream is located again
PAUSE_S = 0.25  # between two tries


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a control request to a member."""

    endpoint: str
    method: str
    params: Mapping[str, Any]
    limit_s: float | None  # None: as long as the caller waits


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Steps = Generator[Ask | Pause, Any, Any]


def locating(directory: Directory, stream: str) -> Generator[Ask | Pause, Any, Place]:
    """Ask the members, one after the other and without an end, where a stream is; return its place."""
    while True:
        for endpoint in directory.members:
            try:
                result = yield Ask(endpoint, "locate", {"stream": stream}, LOCATE_S)
            except TrackdError as error:
                directory.answered(stream, endpoint, str(error))
                continue
            place = directory.located(stream, endpoint, result)
            if place is not None:
                return place
            break  # an answer from before a move: the next member is asked after a pause
        yield Pause(PAUSE_S)


def requesting(directory: Directory, method: str, params: Mapping[str, Any]) -> Steps:
    """Send a request to the member that has the stream in `params`, or to any; return the result.

    A request that changes something is repeated only if it was certainly not done.

    Raises:
        TrackdError: the member refuses.
    """
    stream = params.get("stream")
    if not isinstance(stream, str):
        return (yield from _asking_any(directory, method, params))
    while True:
        known = directory.place(stream)
        place = known or (yield from locating(directory, stream))
        try:
            result = yield Ask(place.control, method, params, READ_S if method in READ_ONLY else None)
        except TrackdError as error:
            if not _may_repeat(error, method, was_known=known is not None, owned=place.owned):
                raise
            directory.forget(stream, place)
            directory.answered(stream, place.control, str(error))
            if known is None:
                yield Pause(PAUSE_S)
            continue
        directory.found(stream)
        return result


def listing(directory: Directory) -> Generator[Ask | Pause, Any, tuple[StreamStatus, ...]]:
    """Ask each living member for the streams that are open there; return their rows by name.

    Raises:
        TrackdError: no member answers.
    """
    found = yield from _asking_any(directory, "fleet.status", {})
    rows: dict[str, StreamStatus] = {}
    faults: list[TrackdError] = []
    for member in found["members"][:MOST_MEMBERS]:
        try:
            answer = yield Ask(str(member["endpoints"]["control"]), "status", {}, READ_S)
        except TrackdError as error:  # a member that was killed counts as living until its lease ends
            faults.append(error)
            continue
        for row in read_status(answer).streams:
            # A stream that is moved may be open at two members for a moment.
            if row.stream not in rows or row.next_seq > rows[row.stream].next_seq:
                rows[row.stream] = row
    if faults and len(faults) == len(found["members"]):
        raise faults[0]
    return tuple(rows[name] for name in sorted(rows))


def _asking_any(directory: Directory, method: str, params: Mapping[str, Any]) -> Steps:
    while True:
        for endpoint in directory.members:
            try:
                return (yield Ask(endpoint, method, params, READ_S if method in READ_ONLY else None))
            except TrackdError as error:
                if not _may_repeat(error, method, was_known=False, owned=False):
                    raise
                directory.answered("", endpoint, str(error))
        yield Pause(PAUSE_S)


def _may_repeat(error: TrackdError, method: str, *, was_known: bool, owned: bool) -> bool:
    if error.code is ErrorCode.MOVED or isinstance(error, Unreachable):
        return True
    if error.code is ErrorCode.UNKNOWN_STREAM:
        # The stream may have moved since it was located. An owner that does not have it yet is taking it over.
        return was_known or owned
    return isinstance(error, Timeout) and method in READ_ONLY
