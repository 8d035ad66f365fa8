"""The control socket's requests, each method a small function of its params."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from trackd import __version__
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.engine.outcome import CommandResult
from trackd.models.registry import Checkpoint, ModelRegistry
from trackd.observe.health import Health
from trackd.observe.metrics import Metrics
from trackd.server.access.grants import UNRESTRICTED, Grant, Right
from trackd.server.ingest import REVOKED
from trackd.server.session import Session, Sessions
from trackd.server.stream_lifecycle import Streams
from trackd_client.configuration import ConfigError, nearest
from trackd_client.protocol import (
    PROTOCOL_VERSION,
    Closed,
    ErrorCode,
    Limits,
    ProtocolError,
    Reply,
    Request,
    decode,
    encode,
    tracks_to_map,
)
from trackd_client.protocol import fields as read
from trackd_client.protocol.arrays import Part
from trackd_client.transport.multipart import try_send

logger = logging.getLogger(__name__)

MAX_HISTORY_ROWS = 1024
_HISTORY_ROWS = 256

Answer = Callable[[Any, Exception | None], None]
Method = Callable[[Mapping[str, Any], Grant, Answer], None]
_READERS = (Right.SUBSCRIBE, Right.CONTROL)


class Control:
    """Answers requests; those that concern the engine's state are answered when it has done them."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        sessions: Sessions,
        streams: Streams,
        inbox: Inbox,
        outbox: Outbox,
        models: ModelRegistry,
        health: Health,
        metrics: Metrics,
        limits: Limits,
        drain: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._sessions = sessions
        self._streams = streams
        self._inbox = inbox
        self._outbox = outbox
        self._models = models
        self._health = health
        self._metrics = metrics
        self._limits = limits
        self._drain = drain
        self._started = time.monotonic()
        self._methods: dict[str, Method] = {
            "status": self._status,
            "stream.configure": self._configure,
            "stream.reset": self._reset,
            "stream.close": self._close,
            "history": self._history,
            "tracks.live": self._live,
            "models": self._rows_of_models,
            "model.load": self._load,
            "drain": self._on_drain,
        }

    def handle(self, envelope: Sequence[Part], parts: Sequence[Part], grant: Grant | None = UNRESTRICTED) -> None:
        """Answer one request.

        Args:
            envelope: the routing id, and the empty delimiter where the client sent one.
            parts: the message.
            grant: what the connection's key allows; None where the key was taken away.
        """
        request_id: Any = None

        def answer(result: Any, error: Exception | None) -> None:
            if error is None:
                reply = Reply(request_id, result)
            else:
                reply = Reply(request_id, error=_verdict(error))
                self._metrics.refused(_verdict(error)[0])
            if not try_send(self._socket, [*envelope, *encode(reply)]):
                self._metrics.unsent_replies.inc()

        try:
            message = decode(parts, self._limits, ("request",))
            assert isinstance(message, Request)
            request_id = message.id
            if grant is None:
                raise ProtocolError(ErrorCode.FORBIDDEN, REVOKED)
            method = self._methods.get(message.method)
            if method is None:
                hint = nearest(message.method[:60], self._methods)
                raise ProtocolError(ErrorCode.BAD_MESSAGE, f"method {message.method[:60]!r} is not known; {hint}")
            method(message.params, grant, answer)
        except ProtocolError as error:
            answer(None, error)
        except Exception as error:
            # A fault of ours in one request must not end the daemon for everybody else.
            logger.exception("a request could not be handled")
            answer(None, error)

    def _session(self, params: Mapping[str, Any], grant: Grant, *rights: Right) -> Session:
        name = read.stream_name(params)
        grant.require_any(rights, name)
        session = self._sessions.get(name)
        if session is None or session.closing:
            raise ProtocolError(ErrorCode.UNKNOWN_STREAM, f"stream {name!r} is not open", stream=name)
        return session

    def _status(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        grant.require_any(_READERS)
        ledgers, active, _ = self._inbox.snapshot()
        rows = []
        for session in self._sessions:
            if not grant.covers(session.name):
                continue
            ledger = ledgers[session.name]
            rows.append(
                {
                    "stream": session.name,
                    "epoch": session.epoch,
                    "next_seq": session.next_seq,
                    "model": session.model,
                    "queued": ledger.queued,
                    "active_tracks": active[session.name],
                    "received": ledger.received,
                    "tracked": ledger.tracked,
                    "dropped": ledger.dropped.total(),
                    "rejected": ledger.rejected.total(),
                }
            )
        result = {
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "uptime_s": time.monotonic() - self._started,
            "ready": self._health.unready() is None,
            "draining": self._health.draining,
            "device": self._models.device,
            "models": self._models.names,
            "streams": rows,
        }
        answer(result, None)

    def _configure(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        session = self._session(params, grant, Right.CONTROL)
        self._streams.configure(session, read.mapping(params, "config"), answer)

    def _reset(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        self._streams.reset(self._session(params, grant, Right.CONTROL), answer)

    def _live(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        self._streams.live(self._session(params, grant, *_READERS), answer)

    def _rows_of_models(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        grant.require_any(_READERS)
        answer(self._models.rows(), None)

    def _close(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        def closed(message: Closed) -> None:
            result = {"stream": message.stream, "epoch": message.epoch, "last_seq": message.last_seq}
            answer(result, None)

        self._streams.close(self._session(params, grant, Right.CONTROL), "closed by control", closed)

    def _history(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        name = read.stream_name(params)
        grant.require_any(_READERS, name)
        history = self._sessions.history(name)
        if history is None:
            self._session(params, grant, *_READERS)
            return
        epoch = read.integer(params, "epoch", 0) if params.get("epoch") is not None else None
        from_seq = read.integer(params, "from_seq", 0) if params.get("from_seq") is not None else 0
        to_seq = read.integer(params, "to_seq") if params.get("to_seq") is not None else None
        limit = read.integer(params, "limit", 1) if params.get("limit") is not None else _HISTORY_ROWS
        rows = history.select(epoch, from_seq, to_seq, min(limit, MAX_HISTORY_ROWS))
        answer([tracks_to_map(row) for row in rows], None)

    def _load(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        """Read a checkpoint on a thread of its own, so that no stream waits; take it up when it is there."""
        grant.require_everywhere("model.load")
        name, path = read.text(params, "name"), read.text(params, "path")
        try:
            self._models.reserve(name)
        except ConfigError as error:
            raise ProtocolError(ErrorCode.BAD_CONFIG, str(error)) from None

        def done(checkpoint: Checkpoint | None, error: Exception | None) -> None:
            answer(self._models.finish_loading(checkpoint), error)

        def load() -> None:
            try:
                result = CommandResult(done, self._models.read(name, path), None)
            except Exception as error:
                result = CommandResult(done, None, error)
            self._outbox.put([result])

        threading.Thread(target=load, name="load", daemon=True).start()

    def _on_drain(self, params: Mapping[str, Any], grant: Grant, answer: Answer) -> None:
        grant.require_everywhere("drain")
        answer({"draining": True, "queued": self._inbox.waiting}, None)
        self._drain()


def _verdict(error: Exception) -> tuple[ErrorCode, str]:
    if isinstance(error, ProtocolError):
        return error.code, error.message
    if isinstance(error, ValueError):
        return ErrorCode.BAD_CONFIG, str(error)
    return ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"
