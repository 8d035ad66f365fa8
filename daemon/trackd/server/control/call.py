"""One request as its method gets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.models.registry import ModelRegistry
from trackd.observe.health import Health
from trackd.server.access.grants import Grant, Right
from trackd.server.session import Session, Sessions
from trackd.server.stream_lifecycle import Streams
from trackd.server.stream_recordings import StreamRecordings
from trackd.store.remembered_models import RememberedModels
from trackd.tracking.correction import CorrectionError, check_text
from trackd_client.protocol import ErrorCode, ProtocolError, Tracks
from trackd_client.protocol import fields as read
from trackd_client.protocol.errors import bad_message

READERS = (Right.SUBSCRIBE, Right.CONTROL)


@dataclass(frozen=True, slots=True)
class DaemonParts:
    """The parts of the daemon that control methods read and change."""

    sessions: Sessions
    streams: Streams
    inbox: Inbox
    outbox: Outbox
    models: ModelRegistry
    health: Health
    drain: Callable[[], None]
    started_s: float  # monotonic
    recordings: StreamRecordings
    remembered: RememberedModels | None = None  # None: without `daemon.state_dir`


class Answer(Protocol):
    """Sends the reply of one request; called once, on the IO thread, at any time."""

    def __call__(self, result: Any, error: Exception | None = None) -> None:
        """Send the result, or the error where there is one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        daemon: the parts of the daemon.
        params: as the client sent them, unchecked.
        grant: the rights of the client's key.
        answer: sends the reply.
        answer_with_rows: sends a list of settlements as the reply, however long it takes to encode them.
    """

    daemon: DaemonParts
    params: Mapping[str, Any]
    grant: Grant
    answer: Answer
    answer_with_rows: Callable[[list[Tracks]], None]

    def session(self, *rights: Right) -> Session:
        """Return the open stream that `params` names, for a client that has one of these rights to it.

        Raises:
            ProtocolError: no right, or no such stream.
        """
        name = read.stream_name(self.params)
        self.grant.require_any(rights, name)
        session = self.daemon.sessions.get(name)
        if session is None or session.closing:
            self.daemon.streams.unavailable.check(name)
            raise unknown_stream(name)
        return session

    def author(self) -> str:
        """Return who asks, as the client says: "" if it does not.

        Raises:
            ProtocolError: it is no printable text of at most 64 characters (`bad_message`).
        """
        author = read.text(self.params, "author") if self.params.get("author") is not None else ""
        try:
            if author:
                check_text("author", author)
        except CorrectionError as error:
            raise bad_message(str(error)) from None
        return author


Method = Callable[[Call], None]  # answers the call, now or later, or raises ProtocolError


def unknown_stream(name: str) -> ProtocolError:
    """Return the error of a request for a stream that is not open."""
    return ProtocolError(ErrorCode.UNKNOWN_STREAM, f"stream {name!r} is not open", stream=name)
