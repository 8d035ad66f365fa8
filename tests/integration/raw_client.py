"""A client written from protocol.md alone, with pyzmq, msgpack and numpy and without the SDK."""

from __future__ import annotations

import time
from typing import Any

import msgpack
import numpy as np
import zmq

TIMEOUT_MS = 5000


Keys = tuple[bytes, bytes, bytes]  # the server's public key, the client's public key and secret key


class RawClient:
    """One DEALER, one SUB and one control DEALER."""

    def __init__(self, addresses: dict[str, str], subscribe: str | None = None, keys: Keys | None = None) -> None:
        self.context = zmq.Context()
        self.keys = keys
        self.ingest = self.connect(zmq.DEALER, addresses["ingest"])
        self.control = self.connect(zmq.DEALER, addresses["control"])
        self.tracks = self.connect(zmq.SUB, addresses["tracks"])
        if subscribe is not None:
            self.tracks.subscribe(f"tracks/{subscribe}/".encode())
            self.tracks.subscribe(f"events/{subscribe}/".encode())
            time.sleep(0.2)  # until the subscription has arrived

    def connect(self, kind: int, endpoint: str) -> zmq.Socket:
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = TIMEOUT_MS
        socket.rcvhwm = 100_000
        if self.keys is not None:
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = self.keys
        socket.connect(endpoint)
        return socket

    def send(self, header: dict[str, Any], *arrays: np.ndarray | bytes) -> None:
        parts = [a if isinstance(a, bytes) else np.ascontiguousarray(a).tobytes() for a in arrays]
        self.ingest.send_multipart([msgpack.packb({"v": 1, **header}), *parts])

    def recv(self) -> dict[str, Any]:
        return msgpack.unpackb(self.ingest.recv_multipart()[0])

    def recv_kind(self, *kinds: str) -> dict[str, Any]:
        """Return the next message of one of these kinds; skip others."""
        for _ in range(10_000):
            message = self.recv()
            if message["kind"] in kinds:
                return message
        raise AssertionError(f"no {kinds} received")

    def nothing_comes(self, wait_ms: int = 200) -> bool:
        return self.ingest.poll(wait_ms) == 0

    def open(self, stream: str, **fields: Any) -> dict[str, Any]:
        self.send({"kind": "open", "stream": stream, **fields})
        return self.recv_kind("opened", "error")

    def frame(self, stream: str, seq: int, boxes: np.ndarray, /, **fields: Any) -> None:
        boxes = np.asarray(boxes, "<f4")
        header = {
            "kind": "frame", "stream": stream, "seq": seq, "frame_index": seq, "t_ns": seq * 40_000_000,
            "image": None, "detections": {"boxes": {"dtype": "<f4", "shape": list(boxes.shape), "part": 1}},
        }  # fmt: skip
        self.send({**header, **fields}, boxes)

    def recv_tracks(self) -> tuple[bytes, dict[str, Any], list[bytes]]:
        topic, header, *parts = self.tracks.recv_multipart()
        return topic, msgpack.unpackb(header), parts

    def next_tracks(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the next settlement; skip events."""
        for _ in range(10_000):
            topic, header, parts = self.recv_tracks()
            if topic.startswith(b"tracks/"):
                return header, parts
        raise AssertionError("no tracks received")

    def next_event(self, *events: str) -> dict[str, Any]:
        for _ in range(10_000):
            topic, header, _ = self.recv_tracks()
            if topic.startswith(b"events/") and header["event"] in events:
                return header
        raise AssertionError(f"no event {events} received")

    def request(self, method: str, delimiter: bool = False, **params: Any) -> dict[str, Any]:
        message = msgpack.packb({"v": 1, "kind": "request", "id": 7, "method": method, "params": params})
        self.control.send_multipart([b"", message] if delimiter else [message])
        parts = self.control.recv_multipart()
        assert (parts[0] == b"") == delimiter
        reply = msgpack.unpackb(parts[-1])
        assert reply["v"] == 1
        assert reply["kind"] == "reply"
        assert reply["id"] == 7
        return reply

    def close(self) -> None:
        self.context.destroy(linger=0)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def array(header: dict[str, Any], parts: list[bytes], name: str) -> np.ndarray:
    """Return an array of a message by its name in the header."""
    ref = header[name]
    return np.frombuffer(parts[ref["part"] - 1], ref["dtype"]).reshape(ref["shape"])


def walking_boxes(seq: int, n: int = 3) -> np.ndarray:
    """Return n boxes, far apart, that move to the right together."""
    x = 10 + 2 * seq % 900 + np.zeros(n)
    y = 10 + 100 * np.arange(n)
    return np.stack([x, y, x + 30, y + 40], axis=1).astype("<f4")
