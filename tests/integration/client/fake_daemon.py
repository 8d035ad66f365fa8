"""A scripted daemon on real sockets, for the tests of the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from trackd_client import Detections, ErrorCode
from trackd_client.protocol import (
    Ack,
    Close,
    Closed,
    Error,
    Event,
    EventName,
    Frame,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Reply,
    Request,
    Status,
    Timing,
    Tracks,
    decode,
    encode,
    topic,
    tracks_to_map,
)

BLOCK = {"stream": {"on_overload": "block"}}
TWO = Detections(boxes=np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32))


class FakeDaemon:
    """A daemon of the protocol on three sockets, in a thread. A test can script its answers to frames.

    `script(frame)` returns the messages that answer a frame, or None for the default: settle the frame and ack it.
    """

    def __init__(self, context: zmq.Context, *, depth: int = 8) -> None:
        self.context = context
        self.depth = depth
        self.epoch = 1
        self.config: dict[str, Any] = BLOCK
        self.next_seq: dict[str, int] = {}
        self.settled: dict[str, list[Tracks]] = {}
        self.closed: set[str] = set()  # a daemon has the history of a closed stream
        self.owners: dict[str, bytes] = {}
        self.received: list[Message] = []
        self.script: Callable[[Frame], list[Message] | None] = lambda frame: None
        self.on_open: Callable[[Open], list[Message] | None] = lambda message: None
        self.publish = True
        self.answers_control = True
        self.page = 100  # the largest number of rows in a history reply
        self._ports: dict[str, str] = {}
        self._commands: list[Callable[[], None]] = []
        self.start()

    # --- start and stop ---

    def start(self) -> None:
        self._stop = threading.Event()
        self._sockets = {"ingest": zmq.ROUTER, "tracks": zmq.XPUB, "control": zmq.ROUTER}
        self.sockets: dict[str, Any] = {}
        for name, kind in self._sockets.items():
            socket = self.context.socket(kind)
            socket.setsockopt(zmq.LINGER, 0)
            self._bind(socket, self._ports.get(name, "tcp://127.0.0.1:*"))
            self._ports[name] = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            self.sockets[name] = socket
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def _bind(socket: Any, endpoint: str) -> None:
        """Bind with retries: ZeroMQ releases a port shortly after `close` returns."""
        for _ in range(200):
            try:
                return socket.bind(endpoint)
            except zmq.ZMQError:
                time.sleep(0.01)
        raise TimeoutError(endpoint)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def restart(self, *, fresh: bool = False) -> None:
        """Restart on the same endpoints; `fresh`: without the streams' state."""
        self.stop()
        if fresh:
            self.epoch += 1
            self.next_seq.clear()
            self.settled.clear()
        self.start()

    @property
    def endpoints(self) -> dict[str, str]:
        return dict(self._ports)

    def run(self, command: Callable[[], None]) -> None:
        """Run a command on the daemon's thread, which owns the sockets, and wait until it is done."""
        done = threading.Event()
        self._commands.append(lambda: (command(), done.set()))
        assert done.wait(5)

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in self.sockets.values():
            poller.register(socket, zmq.POLLIN)
        while not self._stop.is_set():
            for socket, _ in poller.poll(5):
                parts = socket.recv_multipart()
                if socket is self.sockets["ingest"]:
                    self._handle(parts[0], decode(parts[1:]))
                elif socket is self.sockets["control"] and self.answers_control:
                    request = decode(parts[1:])
                    assert isinstance(request, Request)
                    socket.send_multipart([parts[0], *encode(self._answer(request))])
            while self._commands:
                self._commands.pop(0)()
        for socket in self.sockets.values():
            socket.close(linger=0)

    # --- ingest ---

    def _handle(self, owner: bytes, message: Message) -> None:
        self.received.append(message)
        if isinstance(message, Open):
            self.owners[message.stream] = owner
        for answer in self._replies(owner, message):
            self.sockets["ingest"].send_multipart([owner, *encode(answer)])
            if isinstance(answer, Closed):
                self.publish_event(Event(answer.stream, EventName.CLOSED, answer.epoch, answer.last_seq))

    def send_to_owner(self, stream: str, messages: list[Message]) -> None:
        """Send messages to a stream's owner. Call this within `run`."""
        for message in messages:
            self.sockets["ingest"].send_multipart([self.owners[stream], *encode(message)])

    def _replies(self, owner: bytes, message: Message) -> list[Message]:
        if isinstance(message, Ping):
            return [Pong(message.t_ns, 0)]
        if isinstance(message, Open):
            self.settled.setdefault(message.stream, [])
            seq = self.next_seq.setdefault(message.stream, 0)
            opened = Opened(message.stream, self.epoch, seq, self.depth, self.config)
            scripted = self.on_open(message)
            return [opened] if scripted is None else scripted
        if isinstance(message, Close):
            last = self.next_seq.pop(message.stream) - 1
            return [Closed(message.stream, self.epoch, last)]
        assert isinstance(message, Frame)
        if owner != self.owners.get(message.stream):
            busy = f"stream {message.stream!r} belongs to another connection"
            return [Error(ErrorCode.STREAM_BUSY, busy, message.stream, message.seq)]
        if message.seq < self.next_seq[message.stream]:
            return [Ack(message.stream, self.next_seq[message.stream] - 1, 0)]
        scripted = self.script(message)
        return self.settle(message) if scripted is None else scripted

    def settle(self, frame: Frame) -> list[Message]:
        self.next_seq[frame.stream] = frame.seq + 1
        n = len(frame.detections)
        tracks = Tracks(
            frame.stream, self.epoch, frame.seq, frame.frame_index, frame.t_ns, Status.TRACKED,
            track_ids=np.arange(n, dtype="<i4"), track_scores=np.ones(n, "<f4"), boxes=np.zeros((n, 4), "<f4"),
            timing=Timing(total=100),
        )  # fmt: skip
        self.settled[frame.stream].append(tracks)
        if self.publish:
            self.sockets["tracks"].send_multipart([topic("tracks", frame.stream), *encode(tracks)])
        return [tracks, Ack(frame.stream, frame.seq, 1)]

    def publish_event(self, event: Event) -> None:
        self.sockets["tracks"].send_multipart([topic("events", event.stream), *encode(event)])

    # --- control ---

    def _answer(self, request: Request) -> Reply:
        stream = request.params.get("stream")
        if stream in self.closed and request.method != "history":
            return Reply(request.id, error=(ErrorCode.UNKNOWN_STREAM, f"stream {stream!r} is not open"))
        if stream is not None and stream not in self.settled:
            return Reply(request.id, error=(ErrorCode.UNKNOWN_STREAM, f"stream {stream!r} is not open"))
        match request.method:
            case "tracks.live":
                rows = [{"id": 0, "state": "active", "box": [0.0, 0.0, 1.0, 1.0], "frame_index": 3}]
                last = self.next_seq.get(stream, 0) - 1
                return Reply(request.id, {"epoch": self.epoch, "seq": last, "tracks": rows})
            case "history":
                wanted = request.params
                rows = [
                    tracks_to_map(row)
                    for row in self.settled[stream]
                    if row.seq >= wanted.get("from_seq", 0)
                    and row.seq <= wanted.get("to_seq", 10**9)
                    and row.epoch == wanted.get("epoch", row.epoch)
                ]
                return Reply(request.id, rows[: self.page])
            case "status":
                streams = [{"stream": name, "next_seq": seq, "new_key": 1} for name, seq in self.next_seq.items()]
                return Reply(request.id, {"version": "0", "ready": True, "streams": streams, "new_key": 1})
            case "stream.configure":
                return Reply(request.id, {"stream": {"on_overload": "drop_oldest"}})
            case _:
                return Reply(request.id, error=(ErrorCode.BAD_MESSAGE, f"method {request.method!r} is not known"))
