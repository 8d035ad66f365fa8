"""Raw ZeroMQ clients for the daemon and echo of bare_loop.py: no sessions, no threads, no resends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import zmq

from trackd.commands.bench import made_detections
from trackd_client.protocol import REPLY_LIMITS, Ack, Frame, Message, Open, Opened, Tracks, decode, encode, topic

INSTANCES = 10
TIMEOUT_MS = 10_000


def frames(seed: int = 0, image: np.ndarray | None = None) -> Iterator[Frame]:
    """Yield frames without end, with the boxes of `trackd bench`."""
    for detections in made_detections(INSTANCES, 1280, 720, seed):
        yield Frame("bench", 0, 0, 0, detections, image)


def frame_bytes(image: np.ndarray | None = None) -> list[bytes]:
    """Return the parts of a frame message."""
    return [bytes(part) for part in encode(next(frames(image=image)))]


@dataclass
class _Stream:
    name: str
    dealer: zmq.Socket[bytes]
    tracks: zmq.Socket[bytes]
    made: Iterator[Frame]
    seq: int = 0
    credit: int = 0
    seen: int = 0

    def send(self) -> None:
        made = next(self.made)
        frame = Frame(self.name, self.seq, self.seq, time.time_ns(), made.detections, made.image)
        self.dealer.send_multipart(encode(frame))
        self.seq += 1
        self.credit -= 1

    def receive(self) -> Message:
        """Return the daemon's next message to this connection."""
        if not self.dealer.poll(TIMEOUT_MS):
            raise TimeoutError(f"the bare daemon did not answer stream {self.name!r}")
        return self.take(self.dealer.recv_multipart())

    def take(self, parts: list[bytes]) -> Message:
        message = decode(parts, REPLY_LIMITS)
        if isinstance(message, Ack | Opened):
            self.credit += message.credit
        return message

    def drain(self) -> None:
        """Read all messages that both sockets have received."""
        while self.dealer.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self.take(self.dealer.recv_multipart())
        while self.tracks.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self.seen += isinstance(decode(self.tracks.recv_multipart()[1:], REPLY_LIMITS), Tracks)


@dataclass(frozen=True)
class Bound:
    """The endpoints of a bare daemon or echo, and the measurements with it."""

    ingest: str
    tracks: str

    def echo(self, parts: list[bytes], seconds: float) -> np.ndarray:
        """Return round trips of the same bytes, ms."""
        times = []
        with zmq.Context.instance().socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(self.ingest)
            until = time.perf_counter() + seconds
            while (sent := time.perf_counter()) < until:
                dealer.send_multipart(parts, copy=False)
                if not dealer.poll(TIMEOUT_MS):
                    raise TimeoutError("no echo")
                dealer.recv_multipart(copy=False)
                times.append(1e3 * (time.perf_counter() - sent))
        return np.array(times[10:])

    def closed_loop(self, seconds: float) -> np.ndarray:
        """Return the time from before a frame is encoded until its tracks are decoded, ms, for each frame."""
        times = []
        with self._open("closed", "tracks", 0) as stream:
            until = time.perf_counter() + seconds
            while (sent := time.perf_counter()) < until:
                stream.send()
                while not isinstance(stream.receive(), Tracks):
                    pass  # the ack of the previous frame
                times.append(1e3 * (time.perf_counter() - sent))
        return np.array(times[10:])

    def sustained(self, streams: int, seconds: float) -> tuple[int, float]:
        """Return frames and frames/s of several streams as fast as credit allows; subscribers receive all tracks."""
        with ExitStack() as stack:
            opened = [stack.enter_context(self._open(f"bench-{number}", "ack", number)) for number in range(streams)]
            poller = zmq.Poller()
            for stream in opened:
                _subscribed(stream)
                poller.register(stream.dealer, zmq.POLLIN)
                poller.register(stream.tracks, zmq.POLLIN)
                stream.seen, stream.seq = 0, 0
            started = time.perf_counter()
            sent = 0
            while (now := time.perf_counter()) - started < seconds or sum(each.seen for each in opened) < sent:
                for stream in opened if now - started < seconds else ():
                    sent += stream.credit
                    while stream.credit > 0:
                        stream.send()
                if not poller.poll(TIMEOUT_MS):
                    raise TimeoutError("tracks are missing")
                for stream in opened:
                    stream.drain()
            return sent, sent / (time.perf_counter() - started)

    @contextmanager
    def _open(self, name: str, reply: str, seed: int) -> Iterator[_Stream]:
        context = zmq.Context.instance()
        with context.socket(zmq.DEALER) as dealer, context.socket(zmq.SUB) as tracks:
            for socket, endpoint in ((dealer, self.ingest), (tracks, self.tracks)):
                socket.linger = 0
                socket.connect(endpoint)
            if reply == "ack":
                tracks.subscribe(topic("tracks", name))
            stream = _Stream(name, dealer, tracks, frames(seed))
            dealer.send_multipart(encode(Open(name, reply=reply)))
            stream.receive()
            yield stream


def _subscribed(stream: _Stream) -> None:
    """Wait until the subscription is active, which is when a frame's tracks arrive."""
    deadline = time.monotonic() + TIMEOUT_MS / 1e3
    while not stream.seen:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no tracks of stream {stream.name!r}")
        stream.send()
        stream.receive()
        stream.tracks.poll(50)
        stream.drain()
    while stream.tracks.poll(50):  # the tracks of earlier frames
        stream.drain()
