"""The control socket: decode a request, call its method, send the reply."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import zmq

from trackd.observe.metrics import Metrics
from trackd.server.access.grants import UNRESTRICTED, Grant
from trackd.server.control import drain, history, models, status, streams
from trackd.server.control.call import Call, DaemonParts, Method
from trackd.server.ingest import REVOKED
from trackd_client.configuration import nearest
from trackd_client.protocol import ErrorCode, Limits, ProtocolError, Reply, Request, decode, encode
from trackd_client.protocol.arrays import Part
from trackd_client.transport.multipart import try_send

logger = logging.getLogger(__name__)


class Control:
    """Answers the requests of the control socket; only the IO thread uses it.

    Args:
        socket: the control socket, for the replies.
        daemon: the parts of the daemon that the methods use.
        metrics: counts refusals and replies that could not be sent.
        limits: of a message.
        extra: more methods by name, beside those of the table below.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        daemon: DaemonParts,
        metrics: Metrics,
        limits: Limits,
        extra: Mapping[str, Method] = MappingProxyType({}),
    ) -> None:
        self._socket = socket
        self._daemon = daemon
        self._metrics = metrics
        self._limits = limits
        self._methods: dict[str, Method] = {
            "status": status.status,
            "stream.configure": streams.configure,
            "stream.reset": streams.reset,
            "stream.close": streams.close,
            "history": history.history,
            "tracks.live": streams.live_tracks,
            "models": models.list_models,
            "model.load": models.load_model,
            "drain": drain.drain,
            **extra,
        }

    def handle(self, envelope: Sequence[Part], parts: Sequence[Part], grant: Grant | None = UNRESTRICTED) -> None:
        """Answer one request. Where the engine has to act first, the reply follows when it has.

        Args:
            envelope: the routing id, and the empty delimiter where the client sent one.
            parts: the message.
            grant: the rights of the connection's key; None where the key was removed.
        """
        request_id: Any = None

        def answer(result: Any, error: Exception | None = None) -> None:
            if error is None:
                reply = Reply(request_id, result)
            else:
                reply = Reply(request_id, error=_code_and_text(error))
                self._metrics.refused(_code_and_text(error)[0])
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
            method(Call(self._daemon, message.params, grant, answer))
        except ProtocolError as error:
            answer(None, error)
        except Exception as error:
            # A fault of the daemon in one request must not end the daemon for all clients.
            logger.exception("a request could not be handled")
            answer(None, error)


def _code_and_text(error: Exception) -> tuple[ErrorCode, str]:
    if isinstance(error, ProtocolError):
        return error.code, error.message
    if isinstance(error, ValueError):
        return ErrorCode.BAD_CONFIG, str(error)
    return ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"
