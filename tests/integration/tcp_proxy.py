"""A network that can be cut: each connection is forwarded to the daemon until the test closes the sockets."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Iterator

_AT_ONCE = 65_536  # bytes
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST, and discard unsent bytes


class TcpProxy:
    """Forwards bytes in both directions in a separate thread.

    Args:
        upstream: the daemon's endpoint, `tcp://host:port`.
    """

    def __init__(self, upstream: str) -> None:
        host, port = upstream.removeprefix("tcp://").rsplit(":", 1)
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0  # connections that were cut
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self.refusing = False  # whether new connections are closed at once
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close all connections on both sides, also in the middle of a message; new ones are accepted at once."""
        with self._lock:
            for one, other in list(self._pairs.items()):
                if one in self._pairs:
                    self.cuts += 1
                    self._drop(one, other)

    def close(self) -> None:
        """End the thread and all connections."""
        self._stopping = True
        self._thread.join(5)
        self.cut()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stopping:
            ready = self._selector.select(0.05)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._pairs:  # not if it was cut since the select
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        downstream, _ = self._listener.accept()
        if self.refusing:
            downstream.close()
            return
        try:
            upstream = socket.create_connection(self._upstream, timeout=2)
        except OSError:  # no daemon listens
            downstream.close()
            return
        for one, other in ((downstream, upstream), (upstream, downstream)):
            # A peer that does not read blocks this proxy for two seconds; then its connection is closed.
            one.settimeout(2)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        other = self._pairs[one]
        try:
            data = one.recv(_AT_ONCE)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        self._drop(one, other)

    def _drop(self, one: socket.socket, other: socket.socket) -> None:
        for end in (one, other):
            self._pairs.pop(end)
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()


@contextlib.contextmanager
def proxies(addresses: dict[str, str]) -> Iterator[dict[str, TcpProxy]]:
    """Start a proxy for each endpoint; return them by the endpoint's name."""
    made: dict[str, TcpProxy] = {}
    try:
        for name, address in addresses.items():
            made[name] = TcpProxy(address)
        yield made
    finally:
        for proxy in made.values():
            proxy.close()
