"""What subscribers ask of the tracks socket: with CURVE each topic is held against the key of who asks."""

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
    """Reads what XPUB hands up; only the IO thread uses it.

    With CURVE the socket is in manual mode: a subscription counts when it is repeated to the socket, which gives it to
    the connection that it was read from last. That goes wrong by one as soon as a connection sends something else than
    a subscription (measured with libzmq 4.3.5: the topic that one key was granted went to another key's connection).
    So nothing is granted after such a message until the socket is empty, who sent it is kept out from then on, and all
    subscribers are made to come again.
    """

    def __init__(
        self, sockets: Sockets, security: Security | None, refused: Callable[[ErrorCode], None] | None = None
    ) -> None:
        self._sockets = sockets
        self._security = security
        self._refused = refused  # counts; there is no way to answer on this socket
        self._confused = False
        self.rebind_due = False

    def receive(self) -> None:
        """Read what has come, for a while."""
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
            security.refused("upstream", f"key {key} sent something else than a subscription to tracks")
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
