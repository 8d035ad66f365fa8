"""The two sockets of a program that stands in for a daemon: it publishes, and answers requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import zmq

from trackd_client.errors import TrackdError
from trackd_client.protocol.arrays import Part
from trackd_client.transport.connection import LINGER_MS, shared_context
from trackd_client.transport.multipart import receive_message, try_send

MOST_WAITING = 1000  # messages for a slow subscriber; `publish` waits for it then
RETRY_S = 0.001
Answer = Callable[[list[Part]], Sequence[Part] | None]


class Publisher:
    """An XPUB socket for messages, and a ROUTER for requests; one thread uses both.

    Args:
        tracks: where to publish.
        control: where to answer.

    Raises:
        TrackdError: an endpoint cannot be bound.
    """

    def __init__(self, tracks: str, control: str) -> None:
        self.subscribed = False  # at least once
        context = shared_context()
        self._publish = context.socket(zmq.XPUB)
        self._publish.setsockopt(zmq.SNDHWM, MOST_WAITING)
        # Without it a message that a subscriber has no room for is lost, which only the seed may decide.
        self._publish.setsockopt(zmq.XPUB_NODROP, 1)
        self._requests = context.socket(zmq.ROUTER)
        for socket, endpoint in ((self._publish, tracks), (self._requests, control)):
            socket.setsockopt(zmq.LINGER, LINGER_MS)
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                self.close()
                raise TrackdError(f"{endpoint}: cannot be bound: {error}") from None
        self.tracks, self.control = (
            socket.getsockopt_string(zmq.LAST_ENDPOINT) for socket in (self._publish, self._requests)
        )
        self._poller = zmq.Poller()
        self._poller.register(self._publish, zmq.POLLIN)
        self._poller.register(self._requests, zmq.POLLIN)

    def publish(self, parts: Sequence[bytes], answer: Answer) -> None:
        """Send a message to its subscribers; while one of them has no room for it, answer requests."""
        while not try_send(self._publish, parts):
            self.serve(RETRY_S, answer)

    def serve(self, timeout_s: float, answer: Answer) -> None:
        """Answer requests for `timeout_s`; each is passed to `answer` as its parts, which returns the parts to send."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            # ZeroMQ waits whole milliseconds; the last one is slept.
            ready = self._poller.poll(max(0, int(left * 1000)))
            for socket, _ in ready:
                received = receive_message(socket, 64)
                if received is None:
                    continue
                if socket is self._publish:
                    self.subscribed = self.subscribed or bytes(received[0][0])[:1] == b"\1"
                elif (parts := answer(received[0][1:])) is not None:
                    try_send(self._requests, [received[0][0], *parts])
            if not ready:
                left = deadline - time.monotonic()
                if left > 0:
                    time.sleep(min(left, 0.001))
                if left <= 0.001:
                    return

    def close(self) -> None:
        """Close both sockets; queued messages may be sent for some more time."""
        self._publish.close()
        self._requests.close()
