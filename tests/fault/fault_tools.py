"""The fault tests' common tools: a daemon whose log is read continuously, its process figures, and laws."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import zmq
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, walking_boxes

from trackd_client import Client

SOAK = bool(os.environ.get("TRACKD_SOAK"))
MB = 1024 * 1024
_SAMPLE = re.compile(r'^trackd_frames_(received|tracked|dropped|rejected|queued)(?:_total)?\{.*?stream="([^"]*)"')


long_form = pytest.mark.skipif(not SOAK, reason="in the long form only: TRACKD_SOAK=1")


def sdk(daemon: DaemonProcess, timeout_s: float = 5.0) -> Client:
    """Return a client of a daemon."""
    addresses = daemon.addresses
    return Client(addresses["ingest"], addresses["tracks"], addresses["control"], timeout_s=timeout_s)


def crowd(seq: int, n: int = 800) -> np.ndarray:
    """Return `n` boxes side by side; 800 of them keep the engine busy for about ten milliseconds."""
    side = int(np.ceil(np.sqrt(n)))
    x, y = np.meshgrid(np.arange(side) * 50.0 + seq % 10, np.arange(side) * 50.0)
    corner = np.stack([x.ravel(), y.ravel()], axis=1)[:n]
    return np.concatenate([corner, corner + 40], axis=1).astype("<f4")


def drain_replies(client: RawClient, wait_ms: int = 100) -> list[dict[str, Any]]:
    """Return the messages of a connection, until none arrives for `wait_ms`."""
    replies = []
    while client.ingest.poll(wait_ms):
        replies.append(client.recv())
    return replies


@contextmanager
def zmq_context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """A context that is destroyed afterwards with all its sockets, also after a failed test."""
    context = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


def rounds(short: int, long: int) -> int:
    """Return the number of rounds: `long` with TRACKD_SOAK set."""
    return long if SOAK else short


def disk_mb(folder: Path) -> float:
    """Return the size of a folder's files, MB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MB


def within(short_s: float, long_s: float) -> pytest.MarkDecorator:
    """The time limit of a test in each form."""
    return pytest.mark.timeout(long_s if SOAK else short_s)


def progress(text: str) -> None:
    """Print a line of progress in the long form (`make soak` shows it)."""
    if SOAK:
        print(f"    {time.strftime('%H:%M:%S')} {text}", flush=True)


class FaultDaemon(DaemonProcess):
    """A daemon whose stderr is read continuously, since a full pipe would block it. The last lines are kept."""

    def __init__(self, *overrides: str, **kwargs: Any) -> None:
        super().__init__(*overrides, **kwargs)
        self.log: deque[str] = deque(maxlen=5000)
        self.log_lines = 0
        self.ps = psutil.Process(self.process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            self.log_lines += 1

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def rss_mb(self) -> float:
        return self.ps.memory_info().rss / MB

    def healthy(self) -> tuple[int, str]:
        return self.get("/healthz")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop all threads of the daemon, and continue them at the end."""
        self.ps.suspend()
        try:
            wait_until(lambda: all(self._thread_state(each.id) in "Tt" for each in self.ps.threads()), 5, "the stop")
            yield
        finally:
            self.ps.resume()

    def _thread_state(self, thread_id: int) -> str:
        stat = Path(f"/proc/{self.ps.pid}/task/{thread_id}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def end(self, timeout_s: float = 20.0) -> int:
        """Send SIGTERM and return the exit code."""
        if self.alive:
            self.process.terminate()
        return self.process.wait(timeout_s)

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.process.terminate()
        try:
            self.process.wait(10)
        except Exception:
            self.process.kill()
            self.process.wait(5)
        self._reader.join(5)


def imbalances(metrics: dict[str, float]) -> list[str]:
    """Return the streams of a scrape for which received is not tracked + dropped + rejected + queued."""
    sums: dict[str, Counter[str]] = {}
    for name, value in metrics.items():
        match = _SAMPLE.match(name)
        if match:
            sums.setdefault(match[2], Counter())[match[1]] += int(value)
    return [
        f"{stream}: {dict(count)}"
        for stream, count in sums.items()
        if count["received"] != count["tracked"] + count["dropped"] + count["rejected"] + count["queued"]
    ]


def refused(metrics: dict[str, float]) -> Counter[str]:
    """Count by code the messages that were answered with an error: refused ones and rejected frames."""
    counts: Counter[str] = Counter()
    for name, value in metrics.items():
        match = re.match(r'^trackd_(?:errors|frames_rejected)_total\{code="([^"]*)"', name)
        if match:
            counts[match[1]] += int(value)
    return counts


class GoodClient:
    """A correct closed loop in a separate thread: the witness that the faults of other clients do not affect.

    Every frame must settle as tracked, in order, within `patience_s`. The next one is sent `pace_s` later; with `fps`
    it is sent at the camera's time, or at once if that time has passed.
    """

    def __init__(
        self,
        addresses: dict[str, str],
        stream: str = "witness",
        pace_s: float = 0.002,
        patience_s: float = 5.0,
        fps: float | None = None,
        **fields: Any,
    ) -> None:
        self.stream = stream
        self.pace_s, self.patience_s, self.fps = pace_s, patience_s, fps
        self.frames = 0
        self.latencies: list[float] = []
        self.fault: str | None = None
        self._stop = threading.Event()
        self._client = RawClient(addresses)
        self._client.ingest.rcvtimeo = int(patience_s * 1000)
        opened = self._client.open(stream, reply="tracks", **fields)
        assert opened["kind"] == "opened", opened
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            due = time.monotonic()
            while not self._stop.wait(self.pace_s if self.fps is None else max(0.0, due - time.monotonic())):
                self._round()
                due = max(due + 1 / (self.fps or 1), time.monotonic())
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error} at seq {self.frames}"

    def _round(self) -> None:
        seq = self.frames
        started = time.perf_counter()
        self._client.frame(self.stream, seq, walking_boxes(seq))
        while True:
            parts = self._client.ingest.recv_multipart()
            header = msgpack.unpackb(parts[0])
            if header["kind"] == "tracks":
                break
            assert header["kind"] == "ack", header
        self.latencies.append(time.perf_counter() - started)
        assert header["seq"] == seq, header
        assert header["status"] == "tracked", header
        self.frames += 1

    def stop(self) -> None:
        """End the loop; fail with its fault if it had one."""
        self._stop.set()
        self._thread.join(10 + self.patience_s)
        self._client.close()
        assert self.fault is None, self.fault

    def __enter__(self) -> GoodClient:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self._stop.set()
            self._thread.join(10)
            self._client.close()


def zmtp(address: str, kind: str, timeout_s: float = 10.0) -> socket.socket:
    """Return a TCP connection after the handshake of a ZeroMQ socket of a kind (ZMTP 3.0, NULL)."""
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=timeout_s)
    greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
    connection.sendall(greeting)
    _read_exactly(connection, 64)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind.encode()
    connection.sendall(b"\x04" + bytes([len(ready)]) + ready)
    flags, size = _read_exactly(connection, 2)
    assert flags == 4, flags
    assert _read_exactly(connection, size).startswith(b"\x05READY")
    return connection


def zmtp_part(body: bytes, *, more: bool = False) -> bytes:
    """Return one part of a message as its bytes on the wire."""
    if len(body) < 256:
        return bytes([1 if more else 0, len(body)]) + body
    return bytes([3 if more else 2]) + struct.pack(">Q", len(body)) + body


def _read_exactly(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        chunk = connection.recv(n - len(data))
        assert chunk, "the daemon closed the connection"
        data += chunk
    return data
