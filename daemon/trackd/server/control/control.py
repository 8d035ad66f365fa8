"""The control socket: decode a request, call its method, send the reply."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import zmq

from trackd.observe.metrics import Metrics
from trackd.server.access.grants import UNRESTRICTED, Grant
from trackd.server.budget import Budget, Client
from trackd.server.control import (
    corrections,
    drain,
    fleet,
    history,
    identities,
    models,
    recordings,
    status,
    streams,
    zones,
)
from trackd.server.control.call import Answer, Call, DaemonParts, Method
from trackd.server.ingest import REVOKED
from trackd.server.unsent import LARGE_BYTES, UnsentReplies
from trackd_client.configuration import nearest
from trackd_client.protocol import ErrorCode, Limits, ProtocolError, Reply, Request, Tracks, decode, encode
from trackd_client.protocol.arrays import Part
from trackd_client.protocol.packed import history_pieces
from trackd_client.transport.multipart import try_send

logger = logging.getLogger(__name__)

_REPLY_NS = 1_000_000  # spent on a long reply in one turn


@dataclass(slots=True, eq=False)
class _LongReply:
    """A reply that is encoded over several turns."""

    client: Client
    envelope: Sequence[Part]
    pieces: Iterator[bytes]
    packed: bytearray = field(default_factory=bytearray)


class Control:
    """Answers the requests of the control socket; only the IO thread uses it.

    Args:
        socket: the control socket, for the replies.
        daemon: the parts of the daemon that the methods use.
        metrics: counts refusals and replies that could not be sent.
        limits: of a message.
        extra: more methods by name, beside those of the table below.
        budget: the handling time of each client.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        daemon: DaemonParts,
        metrics: Metrics,
        limits: Limits,
        extra: Mapping[str, Method] = MappingProxyType({}),
        budget: Budget | None = None,
    ) -> None:
        self._budget = budget or Budget()
        self._unsent = UnsentReplies(socket)
        self._long_replies: deque[_LongReply] = deque()
        self._socket = socket
        self._daemon = daemon
        self._metrics = metrics
        self._limits = limits
        self._methods: dict[str, Method] = {
            "status": status.status,
            "stream.configure": streams.configure,
            "stream.reset": streams.reset,
            "stream.close": streams.close,
            "stream.correct": corrections.correct,
            "stream.zones": zones.zones,
            "stream.set_zones": zones.set_zones,
            "identities.save": identities.save,
            "identities.list": identities.list_galleries,
            "recording.start": recordings.start,
            "recording.stop": recordings.stop,
            "recording.list": recordings.list_recordings,
            "history": history.history,
            "tracks.live": streams.live_tracks,
            "models": models.list_models,
            "model.load": models.load_model,
            "drain": drain.drain,
            "locate": fleet.locate,
            "fleet.status": fleet.status,
            "fleet.drain": fleet.drain,
            "fleet.move": fleet.move,
            "fleet.rebalance": fleet.rebalance,
            **extra,
        }

    def handle(self, envelope: Sequence[Part], parts: Sequence[Part], grant: Grant | None = UNRESTRICTED) -> None:
        """Answer one request. Where the engine has to act first, the reply follows when it has.

        Args:
            envelope: the routing id, and the empty delimiter where the client sent one.
            parts: the message.
            grant: the rights of the connection's key; None where the key was removed.
        """
        started = time.monotonic_ns()
        client = (grant.key if grant is not None else "") or bytes(envelope[0])
        request_id: Any = None

        def answer(result: Any, error: Exception | None = None) -> None:
            reply = Reply(request_id, result) if error is None else Reply(request_id, error=code_and_text(error))
            self._send(envelope, encode(reply))

        def answer_with_rows(rows: list[Tracks]) -> None:
            self._long_replies.append(_LongReply(client, envelope, history_pieces(request_id, rows)))
            self._budget.hold(client)
            self._continue(self._long_replies[-1], started + _REPLY_NS)

        try:
            message = decode(parts, self._limits, ("request",))
            assert isinstance(message, Request)
            request_id = message.id
            if grant is None:
                raise ProtocolError(ErrorCode.FORBIDDEN, REVOKED)
        except Exception as error:
            if not isinstance(error, ProtocolError):
                logger.exception("a request could not be read")
            self._metrics.refused(code_and_text(error)[0])
            answer(None, error)
            self._budget.spend(client, time.monotonic_ns() - started)
            return
        self.run(message.method, message.params, grant, client, answer, answer_with_rows, started)

    def run(
        self,
        name: str,
        params: Mapping[str, Any],
        grant: Grant,
        client: Client,
        answer: Answer,
        answer_with_rows: Callable[[list[Tracks]], None],
        started: int | None = None,
    ) -> None:
        """Call one method. The time that it takes is taken from its client's budget.

        Args:
            name: of the method; one that is not known is answered with an error.
            params: as the client sent them.
            grant: the client's rights.
            client: whose budget it is.
            answer: sends the result or the error, now or later.
            answer_with_rows: sends a list of settlements as the result.
            started: when its handling began, monotonic ns; None: now.
        """
        started = time.monotonic_ns() if started is None else started
        returned = False

        def counted(result: Any, error: Exception | None = None) -> None:
            answer_started = time.monotonic_ns()
            if error is not None:
                self._metrics.refused(code_and_text(error)[0])
            answer(result, error)
            if returned:
                self._budget.spend(client, time.monotonic_ns() - answer_started)

        try:
            method = self._methods.get(name)
            if method is None:
                hint = nearest(name[:60], self._methods)
                raise ProtocolError(ErrorCode.BAD_MESSAGE, f"method {name[:60]!r} is not known; {hint}")
            method(Call(self._daemon, params, grant, counted, answer_with_rows))
        except ProtocolError as error:
            if error.code is ErrorCode.UNKNOWN_STREAM and error.stream is not None and self._daemon.streams.fleet:
                self._daemon.streams.fleet.refuse_elsewhere(error, counted)
            else:
                counted(None, error)
        except Exception as error:
            # A fault of the daemon in one request must not end the daemon for all clients.
            logger.exception("a request could not be handled")
            counted(None, error)
        finally:
            returned = True
            self._budget.spend(client, time.monotonic_ns() - started)

    @property
    def is_answering(self) -> bool:
        """Whether a long reply is not complete."""
        return bool(self._long_replies)

    def continue_replies(self) -> None:
        """Continue the oldest long reply for a short time."""
        if self._long_replies:
            reply, started = self._long_replies[0], time.monotonic_ns()
            try:
                self._continue(reply, started + _REPLY_NS)
            except Exception:
                logger.exception("a long reply could not be encoded")
                self._long_replies.remove(reply)
                self._budget.release(reply.client)
            self._budget.spend(reply.client, time.monotonic_ns() - started)

    def _continue(self, reply: _LongReply, until_ns: int) -> None:
        for piece in reply.pieces:
            reply.packed += piece
            if time.monotonic_ns() >= until_ns:
                return
        self._long_replies.remove(reply)
        self._budget.release(reply.client)
        self._send(reply.envelope, [memoryview(reply.packed)])

    def _send(self, envelope: Sequence[Part], parts: Sequence[Part]) -> None:
        nbytes = sum(map(len, parts))
        if nbytes < LARGE_BYTES:
            sent = try_send(self._socket, [*envelope, *parts])
        else:
            sent = self._unsent.send(bytes(envelope[0]), [*envelope, *parts], nbytes)
        if not sent:
            self._metrics.unsent_replies.inc()

    def look_at_replies(self) -> None:
        """Free what is sent; called each second."""
        self._unsent.look()

    def refuse(self, envelope: Sequence[Part], error: ProtocolError) -> None:
        """Answer a request that is not read, so its id is not known."""
        self._metrics.refused(error.code)
        self._send(envelope, encode(Reply(None, error=(error.code, error.message))))


def code_and_text(error: Exception) -> tuple[ErrorCode, str]:
    """Return an error as a reply has it."""
    if isinstance(error, ProtocolError):
        return error.code, error.message
    if isinstance(error, ValueError):
        return ErrorCode.BAD_CONFIG, str(error)
    return ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"
