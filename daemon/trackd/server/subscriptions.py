"""The subscriptions of the tracks socket: with CURVE each topic is compared with the key of its subscriber."""

from __future__ import annotations

import logging
from collections.abc import Callable

import zmq

from trackd.server.access.curve import Security
from trackd.server.sockets import Sockets, confirmed_key
from trackd_client.protocol import ErrorCode

logger = logging.getLogger(__name__)

_BURST = 64
_SUBSCRIBE, _UNSUBSCRIBE = 1, 0


class Subscriptions:
    """Reads the messages that XPUB passes on from subscribers; only the IO thread uses it.

    With CURVE the socket is in manual mode: a subscription takes effect only when the daemon repeats it to the socket,
    and the socket assigns it to the connection of the last message that was read. After a message that is no
    subscription, this assignment is off by one connection (measured with libzmq 4.3.5: the topic that one key was
    granted was assigned to another key's connection). So after such a message nothing is granted until the socket is
    empty, the key of its sender is banned, and all subscribers are disconnected and have to reconnect.
    """

    def __init__(
        self, sockets: Sockets, security: Security | None, refused: Callable[[ErrorCode], None] | None = None
    ) -> None:
        self._sockets = sockets
        self._security = security
        self._refused = refused  # counts a refusal; this socket has no way to answer
        self._confused = False
        self.rebind_due = False

    def receive(self) -> None:
        """Read the messages that are there, up to a limit."""
        for _ in range(_BURST):
            try:
                frame = self._sockets.tracks.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._confused = False
                return
            if self._security is not None:
                self._handle(frame, self._security)
            elif self._refused is not None and bytes(frame.buffer[:1]) not in (b"\0", b"\1"):
                self._refused(ErrorCode.BAD_MESSAGE)

    def _handle(self, frame: zmq.Frame, security: Security) -> None:
        message = frame.buffer
        verb = message[0] if len(message) else -1
        key = confirmed_key(frame)
        if verb not in (_SUBSCRIBE, _UNSUBSCRIBE) or frame.more:
            self._confused = self.rebind_due = True
            security.ban(key)
            security.refused("upstream", f"key {key} sent tracks a message that is no subscription")
        if self._confused:
            return
        topic = bytes(message[1:])
        if verb == _UNSUBSCRIBE:
            self._sockets.tracks.setsockopt(zmq.UNSUBSCRIBE, topic)
            return
        grant = security.grants.get(key)
        if grant is not None and grant.may_subscribe(topic):
            self._sockets.tracks.setsockopt(zmq.SUBSCRIBE, topic)
        else:
            name = grant.name if grant is not None else key
            security.refused("subscription", f"key {name!r} may not subscribe to {topic[:200]!r}")
