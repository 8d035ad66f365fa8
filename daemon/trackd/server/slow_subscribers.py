"""Disconnect the subscriber that reads least, where records wait for it that take much memory.

ZeroMQ cannot close one connection of a bound socket. The operating system can: a connection is recognised by its local
address, through a copy of its file descriptor, which names the same connection also if ZeroMQ closes its own meanwhile.
So no descriptor of another socket is ever shut down.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

logger = logging.getLogger(__name__)

_LOOK_NS = 100_000_000
_LOOKS = 4  # in each of which a subscriber must have unsent bytes to be disconnected
_ACKED_AT = 120  # of tcpi_bytes_acked in Linux's `struct tcp_info`


class SlowSubscribers:
    """Looks at the connections of the tracks socket; only the IO thread uses it.

    Args:
        address: returns the address to which the tracks socket is bound.
        clock: monotonic, ns.
    """

    def __init__(self, address: Callable[[], str], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._address = address
        self._clock = clock
        self._last_look_ns = 0
        self._looks: list[dict[int, int]] = []  # of each connection with unsent bytes: the bytes that it has received

    def look(self) -> None:
        """Look at all connections, at most ten times a second; disconnect one after some looks. Call it again."""
        now = self._clock()
        if now - self._last_look_ns < _LOOK_NS:
            return
        if now - self._last_look_ns > 5 * _LOOK_NS:  # those looks belong to an earlier fault
            self._looks.clear()
        self._last_look_ns = now
        self._looks.append({inode: received for inode, received, _ in self._with_unsent()})
        if len(self._looks) < _LOOKS:
            return
        first, last = self._looks[0], self._looks[-1]
        slow = [inode for inode in last if all(inode in look for look in self._looks)]
        self._looks.clear()
        if slow:
            self._disconnect(min(slow, key=lambda inode: last[inode] - first[inode]))

    def _disconnect(self, slowest: int) -> None:
        for inode, _, connection in self._with_unsent():
            if inode == slowest:
                logger.warning("tracks: a subscriber (%s) does not read and is disconnected", _peer(connection))
                connection.shutdown(socket.SHUT_RDWR)
                return

    def _with_unsent(self) -> Iterator[tuple[int, int, socket.socket]]:
        """Yield each connection of the tracks socket that has unsent bytes; its copy is closed afterwards."""
        address = self._address()
        for path in Path("/dev/fd").iterdir():
            try:
                if not stat.S_ISSOCK(os.fstat(int(path.name)).st_mode):
                    continue
                connection = socket.socket(fileno=os.dup(int(path.name)))
            except OSError:  # closed meanwhile
                continue
            with closing(connection):
                try:
                    if _is_of(connection, address) and (unsent := _unsent(connection)):
                        yield os.fstat(connection.fileno()).st_ino, _received(connection, unsent), connection
                except OSError:
                    continue


def _is_of(connection: socket.socket, address: str) -> bool:
    """Return whether this is an accepted connection of the socket that is bound to an address."""
    local = connection.getsockname()
    if connection.family == socket.AF_UNIX:
        bound = address.removeprefix("ipc://")
        found = local.decode(errors="replace") if isinstance(local, bytes) else str(local)
        is_local = address.startswith("ipc://") and found.lstrip("\0@") == bound.lstrip("@")
    else:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        is_local = port == str(local[1]) and host.strip("[]") in (local[0], "0.0.0.0", "::")
    if not is_local or connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    connection.getpeername()  # fails where it is not connected
    return True


def _unsent(connection: socket.socket) -> int:
    """Return the bytes that the other side has not received."""
    (unsent,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(unsent)


def _received(connection: socket.socket, unsent: int) -> int:
    """Return a number that rises by the bytes that the other side receives; where it is not known, it does not rise."""
    if connection.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return 0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + 8)
    return int(struct.unpack_from("=Q", info, _ACKED_AT)[0]) if len(info) >= _ACKED_AT + 8 else 0


def _peer(connection: socket.socket) -> str:
    peer = connection.getpeername()
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "ipc"
