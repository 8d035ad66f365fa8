"""A camera whose pictures show their own seq, and a page of the viewer, as a browser would connect."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import msgpack
import numpy as np
from daemon_process import DaemonProcess
from websockets.sync.client import ClientConnection, connect

from trackd.config import check_config
from trackd.daemon import Daemon
from trackd_client import Client, Detections

SIZE = 128  # pixels of a picture's sides
_BITS = 16
_CELL = SIZE // 4


def seq_image(seq: int) -> np.ndarray:
    """Return (128, 128, 3) pixels: four by four cells, each white for a bit of `seq` that is set, else black."""
    bits = np.array([(seq >> bit) & 1 for bit in range(_BITS)], np.uint8).reshape(4, 4)
    return np.repeat(np.kron(bits, np.full((_CELL, _CELL), 255, np.uint8))[:, :, None], 3, axis=2)


def seq_of(file: bytes) -> int:
    """Return the seq that a picture shows, whatever its size."""
    pixels = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_GRAYSCALE)
    height, width = pixels.shape
    centres = pixels[height // 8 :: height // 4, width // 8 :: width // 4][:4, :4]
    return sum(int(value > 127) << bit for bit, value in enumerate(centres.ravel()))


def box_of(seq: int) -> np.ndarray:
    """Return the box of the only animal in a frame."""
    x = 10 + seq % 50
    return np.array([[x, 10, x + 40, 60]], np.float32)


class Camera:
    """Sends frames on a thread of its own until it is closed.

    Args:
        addresses: of the daemon.
        name: of the stream.
        image: makes the picture of a frame; None: without.
        pace_s: between two frames.
        options: of `open_stream`.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        name: str = "cam",
        image: Callable[[int], Any] | None = seq_image,
        pace_s: float = 0.02,
        **options: Any,
    ) -> None:
        self.seq = -1  # of the last frame that was sent
        self._stopping = threading.Event()
        self._client = Client(**{kind: addresses[kind] for kind in ("ingest", "tracks", "control")})
        self.stream = self._client.open_stream(name, **options)
        self._thread = threading.Thread(target=self._run, args=(image, pace_s))
        self._thread.start()

    def _run(self, image: Callable[[int], Any] | None, pace_s: float) -> None:
        while not self._stopping.wait(pace_s):
            seq = self.seq + 1
            self.stream.send(None if image is None else image(seq), Detections(boxes=box_of(seq)), timeout_s=90)
            self.seq = seq

    def stop(self) -> None:
        """Send no more frames."""
        self._stopping.set()
        self._thread.join(30)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()


class Page:
    """One page: sends messages, and keeps what it receives by type."""

    def __init__(
        self, daemon: DaemonProcess | Daemon, token: str | None = None, hello: bool = True, **options: Any
    ) -> None:
        http = daemon.addresses["http"]
        address = f"ws{http.removeprefix('http')}/viewer/socket"
        self._connected = connect(address, origin=http, open_timeout=30, compression=None, **options)
        self.socket: ClientConnection = self._connected.__enter__()
        self.received: list[dict[str, Any]] = []
        self._requests = 0
        if hello:
            self.send(type="hello", token=token)

    def send(self, **message: Any) -> None:
        self.socket.send(msgpack.packb(message))

    def watch(self, *streams: str, fps: int = 15, width: int = 640, image: bool = True) -> None:
        self.send(type="watch", streams={name: {"fps": fps, "width": width, "image": image} for name in streams})

    def receive(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = msgpack.unpackb(self.socket.recv(timeout_s))
        self.received.append(message)
        return message

    def until(self, fits: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0) -> dict[str, Any]:
        """Receive until a message fits, and return it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self.receive(max(0.01, deadline - time.monotonic()))
            if fits(message):
                return message
        raise AssertionError(f"no such message within {timeout_s} s; got {[m['type'] for m in self.received][-20:]}")

    def frame(self, stream: str = "cam") -> dict[str, Any]:
        """Return the next frame of a stream."""
        return self.until(lambda m: m["type"] == "frame" and m["stream"] == stream)

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request; return its reply."""
        self._requests += 1
        number = self._requests
        self.send(type="request", id=number, method=method, params=params)
        return self.until(lambda m: m["type"] == "reply" and m["id"] == number)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connected.__exit__(None, None, None)


def daemon_here(**sections: Any) -> Daemon:
    """Return a daemon of this process, which starts faster than a process of its own."""
    endpoints = dict.fromkeys(("ingest", "tracks", "control"), "tcp://127.0.0.1:*")
    daemon = {"endpoints": {**endpoints, **sections.pop("endpoints", {})}, "http": "127.0.0.1:0"}
    return Daemon(check_config({"daemon": daemon, **sections}))


def small_socket(daemon: DaemonProcess) -> socket.socket:
    """Return a connection whose receive buffer holds little, so that a page that rests soon blocks its sender."""
    host, _, port = daemon.addresses["http"].removeprefix("http://").rpartition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    made.connect((host, int(port)))
    return made


def upgrade(daemon: DaemonProcess | Daemon, path: str = "/viewer/socket", **headers: str | None) -> tuple[int, str]:
    """Ask for a WebSocket by hand; return the status and the body of the answer.

    Args:
        daemon: whom to ask.
        path: of the request.
        headers: replace those of a page of the daemon itself; None leaves one out.
    """
    address = daemon.addresses["http"].removeprefix("http://")
    host, _, port = address.rpartition(":")
    sent = {
        "Host": address, "Origin": f"http://{address}", "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers,
    }  # fmt: skip
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value is not None)]
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while b"\r\n\r\n" not in data and (more := raw.recv(4096)):
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            while more := raw.recv(4096):
                body += more
    return int(head.split()[1]), body.decode(errors="replace")
