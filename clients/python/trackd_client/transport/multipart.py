"""Messages of several parts over a ZeroMQ socket, sent and received at low cost in Python.

A message here has about five small parts. For each part, pyzmq's `Socket` (options for every call, arithmetic on enum
flags, an exception if nothing is available) takes longer than ZeroMQ itself. This module calls pyzmq's core class
with plain integers instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq
from zmq.backend import Socket as _Core  # the base class of `zmq.Socket`

from trackd_client.protocol.arrays import Part

Socket = zmq.Socket[bytes]
Parts = list[Part]

COPIED_BELOW = 65_536  # bytes; for a smaller part a copy is cheaper than sharing its memory
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)

_send: Callable[..., None] = _Core.send
_recv: Callable[..., zmq.Frame] = _Core.recv
_get: Callable[[Socket, int], Any] = _Core.get


def is_readable(socket: Socket) -> bool:
    """Return whether a message is available. A receive that fails takes several times as long."""
    return bool(_get(socket, _EVENTS) & _READABLE)


def send_parts(socket: Socket, parts: Sequence[Part]) -> None:
    """Send without waiting. Parts of `COPIED_BELOW` bytes and more are not copied: do not change them afterwards.

    Raises:
        zmq.Again: the message cannot be queued now.
        zmq.ZMQError: another error.
    """
    last = len(parts) - 1
    for place, part in enumerate(parts):
        _send(socket, part, _MORE if place < last else _NOBLOCK, len(part) < COPIED_BELOW)


def send_tracked(socket: Socket, parts: Sequence[Part]) -> zmq.MessageTracker | None:
    """Send as `try_send`, without a copy of any part: do not change them until the message is sent.

    Returns:
        The tracker, which is done once ZeroMQ holds none of the parts; None if the message cannot be sent.
    """
    frames = [zmq.Frame(part, track=True, copy=False) for part in parts]
    last = len(frames) - 1
    try:
        for place, frame in enumerate(frames):
            _send(socket, frame, _MORE if place < last else _NOBLOCK, False)
    except zmq.ZMQError as error:
        if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            raise
        return None
    return zmq.MessageTracker(*frames)


def next_frame(socket: Socket, *, wait: bool = False) -> zmq.Frame:
    """Return the next part. If its `more` is true, the next part of the same message is available too.

    Raises:
        zmq.Again: no message is available; with `wait`, none within the socket's RCVTIMEO.
    """
    return _recv(socket, 0 if wait else _NOBLOCK, False)


def receive_parts(socket: Socket, *, wait: bool = False) -> list[bytes]:
    """Return the parts of the next message.

    Raises:
        zmq.Again: as for `next_frame`.
    """
    frame = next_frame(socket, wait=wait)
    parts = [frame.bytes]
    while frame.more:
        frame = next_frame(socket)
        parts.append(frame.bytes)
    return parts


def receive_message(socket: Socket, limit: int, *, ready: bool = False) -> tuple[list[Part], zmq.Frame] | None:
    """Receive the next message without waiting.

    Parts beyond `limit` are received and dropped one by one, so that a message of a million parts needs no memory here.

    Args:
        socket: a ROUTER or XPUB socket.
        limit: parts to keep.
        ready: a message is expected, since a poll has reported one or others have just come: receive without a check,
            which takes longer where there is none.

    Returns:
        The parts, and the first frame, which holds the sender's properties; None if no message is there.
    """
    if not ready and not is_readable(socket):
        return None
    try:
        first = frame = _recv(socket, _NOBLOCK, False)
    except zmq.Again:
        return None
    parts: list[Part] = [frame.bytes]
    while frame.more:
        frame = _recv(socket, _NOBLOCK, False)
        if len(parts) < limit:
            # A part that is not copied keeps ZeroMQ's whole buffer of 8 KiB allocated as long as the part exists.
            parts.append(frame.bytes if len(frame) < COPIED_BELOW else frame.buffer)
    return parts, first


def try_send(socket: Socket, parts: Sequence[Part]) -> bool:
    """Send as `send_parts`; return False if the peer is closed or its queue is full."""
    try:
        send_parts(socket, parts)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return False
    return True
