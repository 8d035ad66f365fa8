"""A client's DEALER socket to the daemon, and whether it is connected.

In the SDK, only the modules of `transport/` and `following/subscription.py` import zmq.
"""

from __future__ import annotations

import logging
import math
import os
import select
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

from trackd_client.protocol import REPLY_LIMITS
from trackd_client.transport.curve import CurveKeys
from trackd_client.transport.multipart import Parts, is_readable, receive_parts, send_parts

logger = logging.getLogger(__name__)

Context = zmq.Context[zmq.Socket[bytes]]
LINGER_MS = 500
HEARTBEAT_MS = 2_000
_EVENTS = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


NOT_AUTHORIZED = "it does not let this client's key in: put the key's file into its authorized_clients_dir"


def shared_context() -> Context:
    """Return the process's ZeroMQ context. The SDK never terminates it, because other code may use it too."""
    return zmq.Context.instance()


def set_socket_options(socket: zmq.Socket[bytes], endpoint: str, keys: CurveKeys | None = None) -> None:
    """Set the options that all sockets of a client share. Call this before the socket connects."""
    if keys is not None:
        keys.apply(socket)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, REPLY_LIMITS.header_bytes)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    if not endpoint.startswith("tcp://"):
        return
    socket.setsockopt(zmq.IPV6, 1)
    # A host that crashed or lost its network sends no FIN. Only a missing answer shows it.
    if socket.type == zmq.SUB:
        # A subscriber whose queue is full does not read heartbeats either. ZeroMQ then closes the connection, and ends
        # the whole process ("_input_stopped") when the queue is read again: github.com/zeromq/libzmq/issues/3937. TCP
        # keepalive finds a lost peer without ZeroMQ's heartbeats.
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, HEARTBEAT_MS // 1000)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, HEARTBEAT_MS // 1000)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 2)
        return
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, 4 * HEARTBEAT_MS)


class Connection:
    """A DEALER to one endpoint that detects the loss of its connection.

    ZeroMQ reconnects by itself and then delivers the messages in its queue, but the daemon cannot assign them to the
    former connection. `reconnect` therefore replaces a lost connection and discards its queue.
    """

    def __init__(self, context: Context, endpoint: str, keys: CurveKeys | None = None) -> None:
        self.endpoint = endpoint
        self.disconnected = False
        self.unreachable = False  # the last attempt to connect failed
        self.refusal: str | None = None  # why the handshake failed, if it did
        self._readable = False  # `poll` found that a message may be available
        self._keys = keys
        self._context = context
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._open()

    def send(self, parts: Parts) -> None:
        """Queue a message. Parts of 64 KiB and more are not copied: do not change them before the answer arrives."""
        # The sender bounds the queue: a session by its unacked frames. A send fails only if the daemon refused the
        # handshake. The socket then has no queue and never gets one, so it must be replaced.
        try:
            send_parts(self._socket, parts)
        except zmq.Again:
            self.disconnected = True

    def receive(self) -> list[bytes] | None:
        """Return the next message, or None if none is available."""
        readable, self._readable = self._readable or is_readable(self._socket), False
        if not readable:
            return None
        try:
            return receive_parts(self._socket)
        except zmq.Again:  # the event was not a message
            return None

    @property
    def descriptors(self) -> tuple[int, int]:
        """The file descriptors that signal messages, and changes of the connection; others after a `reconnect`.

        They signal only what came after the last check that found nothing, so check `is_readable` after every send.
        """
        return self._descriptor, self._monitor_descriptor

    @property
    def is_readable(self) -> bool:
        """Whether a message is available."""
        return is_readable(self._socket)

    def poll(self, timeout_s: float) -> None:
        """Wait until a message is available, the connection is lost, or another thread calls `wake`."""
        # A ZeroMQ socket's descriptor signals only events after the last check of the socket that found none, so check
        # the socket first. ZeroMQ's own poll does the same, with twice the system calls.
        self._readable = is_readable(self._socket)
        if self._readable:
            return
        ready = [descriptor for descriptor, _ in self._poller.poll(max(0, math.ceil(timeout_s * 1000)))]
        self._readable = self._descriptor in ready
        if self._monitor_descriptor in ready:
            self.check()
        if self._wake_read in ready:
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)

    def check(self) -> None:
        """Read the events of the socket's monitor and set `disconnected`, `unreachable` and `refusal`."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
            if event == zmq.EVENT_DISCONNECTED:
                self.disconnected = True
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self.unreachable = True
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.refusal = None
                self.unreachable = False
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.refusal = NOT_AUTHORIZED
            elif self._keys is not None:
                self.refusal = "it does not have this server_key, or does not use CURVE"
            else:
                self.refusal = "it wants CURVE keys: give server_key and client_keys"

    def wake(self) -> None:
        """End another thread's `poll`. No other method may be called during a `poll`."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def reconnect(self) -> None:
        """Close the socket, discard its queue and connect a new one."""
        self._close_sockets(linger_ms=0)
        self._open()

    def redirect(self, endpoint: str) -> None:
        """Close the socket, discard its queue and connect a new one to another endpoint, which may be any string."""
        self.endpoint = endpoint
        self.refusal = None
        try:
            self.reconnect()
        except zmq.ZMQError as error:
            logger.warning("endpoint=%s: cannot be used: %s", endpoint, error)
            self.unreachable = True

    def close(self) -> None:
        """Close the socket. Queued messages may be sent for another `LINGER_MS`."""
        self._close_sockets(LINGER_MS)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _open(self) -> None:
        self.disconnected = self.unreachable = False
        self._readable = False
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        set_socket_options(self._socket, self.endpoint, self._keys)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)  # at most an answer or two for each unacked frame
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        self._monitor_descriptor = int(self._monitor.getsockopt(zmq.FD))
        self._poller = select.poll()
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        for descriptor in (self._descriptor, self._monitor_descriptor, self._wake_read):
            self._poller.register(descriptor, select.POLLIN)
        self.check()  # read the monitor once: only then does its descriptor signal the next event
        self._socket.connect(self.endpoint)

    def _close_sockets(self, linger_ms: int) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=linger_ms)
