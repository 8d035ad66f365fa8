"""A PUB or PUSH socket for messages to other programs."""

from __future__ import annotations

import zmq

from trackd_client.errors import TrackdError
from trackd_client.transport.connection import LINGER_MS, shared_context
from trackd_client.transport.multipart import try_send

_KINDS = {"pub": zmq.PUB, "push": zmq.PUSH}


class SendingSocket:
    """Sends without waiting.

    Args:
        endpoint: of the receiver, or where this socket is bound.
        kind: `pub` or `push`.
        bind: bind in place of connect.
        queue: messages that wait for a slow receiver.

    Raises:
        TrackdError: the endpoint cannot be used.
    """

    def __init__(self, endpoint: str, kind: str, *, bind: bool, queue: int) -> None:
        self._socket: zmq.Socket[bytes] = shared_context().socket(_KINDS[kind])
        self._socket.setsockopt(zmq.SNDHWM, queue)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        try:
            if bind:
                self._socket.bind(endpoint)
            else:
                self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close(linger=0)
            raise TrackdError(f"{endpoint}: {'cannot be bound' if bind else 'cannot be used'}: {error}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT) if bind else endpoint

    def send(self, parts: list[bytes]) -> bool:
        """Queue a message; return False if nothing can take it. A PUB socket drops it without a word."""
        return try_send(self._socket, parts)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
