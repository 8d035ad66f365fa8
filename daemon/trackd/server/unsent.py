"""The bytes of large messages that ZeroMQ still holds: its own limits count messages, whatever their size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import zmq

from trackd_client.protocol.arrays import Part
from trackd_client.transport.multipart import send_tracked

LARGE_BYTES = 16_384  # of a message whose memory is tracked: a thousand smaller ones, ZeroMQ's limit, are 16 MB
REPLY_BYTES = 67_108_864  # unsent to one connection of `ingest` or `control`
TRACKS_BYTES = 268_435_456  # unsent to all subscribers together, who share the memory of a record
_LOOK_AGAIN = 64  # messages between two looks at all of them


class Unsent:
    """The large messages to one receiver, or to all subscribers, that are not sent yet.

    Args:
        most: bytes; beyond it a message is not sent. A single message is always sent.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.nbytes = 0  # an upper bound: messages that were sent since the last look are included
        self._messages: deque[tuple[zmq.MessageTracker, int]] = deque()
        self._added = 0

    def send(self, socket: zmq.Socket[bytes], parts: Sequence[Part], nbytes: int) -> bool:
        """Send a message of `nbytes` without waiting; return False if too many bytes or messages are unsent.

        Raises:
            zmq.ZMQError: as `try_send`.
        """
        self._added += 1
        if self._added % _LOOK_AGAIN == 0 or self.nbytes + nbytes > self.most:
            self.look()
        if self.nbytes and self.nbytes + nbytes > self.most:
            return False
        tracker = send_tracked(socket, parts)
        if tracker is None:
            return False
        self._messages.append((tracker, nbytes))
        self.nbytes += nbytes
        return True

    def look(self) -> None:
        """Forget the messages that are sent."""
        self._messages = deque(entry for entry in self._messages if not entry[0].done)
        self.nbytes = sum(nbytes for _, nbytes in self._messages)


class UnsentReplies:
    """The large replies to each connection of a ROUTER socket that are not sent yet."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._by_owner: dict[bytes, Unsent] = {}

    def send(self, owner: bytes, parts: Sequence[Part], nbytes: int) -> bool:
        """Send a large message, the routing id first; return False if the connection is closed or does not read."""
        unsent = self._by_owner.get(owner)
        if unsent is None:
            unsent = self._by_owner[owner] = Unsent(REPLY_BYTES)
        return unsent.send(self._socket, parts, nbytes)

    def look(self) -> None:
        """Forget what is sent, also to connections that are closed."""
        for unsent in self._by_owner.values():
            unsent.look()
        self._by_owner = {owner: unsent for owner, unsent in self._by_owner.items() if unsent.nbytes}
