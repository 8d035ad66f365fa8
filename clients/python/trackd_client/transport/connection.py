"""A client's socket to the daemon: one DEALER, and whether it is connected.

Beside `subscription.py` the only module here that knows ZeroMQ.
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
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


NOT_AUTHORIZED = "it does not let this client's key in: the key's file belongs into its authorized_clients_dir"


def shared_context() -> Context:
    """The process's own ZeroMQ context; never terminated here, since others may use it too."""
    return zmq.Context.instance()


def set_socket_options(socket: zmq.Socket[bytes], endpoint: str, keys: CurveKeys | None = None) -> None:
    """What every socket of a client has in common; called before it connects."""
    if keys is not None:
        keys.apply(socket)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, REPLY_LIMITS.header_bytes)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    if not endpoint.startswith("tcp://"):
        return
    socket.setsockopt(zmq.IPV6, 1)
    # A host that vanished sends no FIN: only a missing answer tells.
    if socket.type == zmq.SUB:
        # A subscriber whose queue is full reads no heartbeat either. ZeroMQ then gives the connection up, and ends the
        # whole process ("_input_stopped") when the queue is read again: github.com/zeromq/libzmq/issues/3937. The
        # systems at both ends can do the same without it.
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, HEARTBEAT_MS // 1000)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, HEARTBEAT_MS // 1000)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 2)
        return
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, 4 * HEARTBEAT_MS)


class Connection:
    """A DEALER to one endpoint that notices when its peer goes.

    ZeroMQ would reconnect by itself and deliver what still lies in its queue to a daemon that no longer knows us, so
    a connection that was lost is replaced as a whole: `reconnect` throws the old queue away.
    """

    def __init__(self, context: Context, endpoint: str, keys: CurveKeys | None = None) -> None:
        self.endpoint = endpoint
        self.disconnected = False
        self.refusal: str | None = None  # why the daemon does not let us in, where ZeroMQ says so
        self._readable = False  # `poll` has said that a message may be there
        self._keys = keys
        self._context = context
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._open()

    def send(self, parts: Parts) -> None:
        """Queue a message. Parts beyond 64 KiB are not copied: leave their memory alone until the answer is there."""
        # The queue is not bounded here but by who sends: a session by its unacked frames. Only where the daemon did not
        # let us in has the socket nowhere to queue at all: it would wait for ever, and has to be replaced.
        try:
            send_parts(self._socket, parts)
        except zmq.Again:
            self.disconnected = True

    def receive(self) -> list[bytes] | None:
        """The next message that is there, or None."""
        readable, self._readable = self._readable or is_readable(self._socket), False
        if not readable:
            return None
        try:
            return receive_parts(self._socket)
        except zmq.Again:  # what woke us was not a message
            return None

    def poll(self, timeout_s: float) -> None:
        """Wait until a message is there, the connection is lost, or another thread calls `wake`."""
        # A ZeroMQ socket's descriptor tells only of what comes after the socket last said "none": ask it first.
        # ZeroMQ's own poll does the same, with twice the system calls.
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
        """Read what the socket's monitor says; sets `disconnected` and `refusal`."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
            if event == zmq.EVENT_DISCONNECTED:
                self.disconnected = True
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.refusal = None
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.refusal = NOT_AUTHORIZED
            elif self._keys is not None:
                self.refusal = "it does not have this server_key, or does without CURVE"
            else:
                self.refusal = "it wants CURVE keys: give server_key and client_keys"

    def wake(self) -> None:
        """End another thread's `poll`; the one method that is safe beside it."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def reconnect(self) -> None:
        """Throw the socket and all that it still holds away, and connect anew."""
        self._close_sockets(linger_ms=0)
        self._open()

    def close(self) -> None:
        """Close; what is still queued has `LINGER_MS` to go out."""
        self._close_sockets(LINGER_MS)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _open(self) -> None:
        self.disconnected = False
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
        self.check()  # the monitor says "none" for the first time; from now on its descriptor tells
        self._socket.connect(self.endpoint)

    def _close_sockets(self, linger_ms: int) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=linger_ms)
