"""What open pages of the viewer cost the other streams: closed loop and eight streams at full rate, with 0 and 5 pages.

    python benchmarks/viewer.py [--rounds R] [--seconds S] [--pages N] [--fps F] [--jpeg] [--camera-fps F]

A camera, a process of its own, sends raw colour images of 640 × 480 at 30 frames/s in all measurements. Each page
watches it at 15 frames/s, 1280 pixels wide. The pages are one more process, which reads their messages and does nothing
with them. A round measures without pages and with them, in turn and in changing order, so that other load slows both; a
ratio is of one round, and the table has medians over the rounds.

`--jpeg`: the camera sends JPEG files, which are passed on.
"""

from __future__ import annotations

import argparse
import base64
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import msgpack
import numpy as np
import psutil

from bare_client import INSTANCES
from figures import Figure
from processes import cpu_s, watched
from targets import Target
from trackd.commands.bench import Load, measure, rate
from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Detections
from trackd_client.protocol import EncodedImage

CAMERA = "camera"
MOST = 0.03  # of the p50 or the rate that pages may cost
CAMERA_FPS = 30.0
WARM_UP_S = 0.5


@dataclass
class Measured:
    """The figures of one measurement."""

    p50_ms: float
    p99_ms: float
    rate: float
    daemon_cpu: float  # processor seconds a second, while the closed loop ran
    page_fps: float  # frames/s of each page


# --- the camera ---


def scene() -> np.ndarray:
    """Return 640 × 480 RGB pixels with some texture, whose JPEG file is as large as that of a usual picture."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def send_frames(addresses: list[str], fps: float, jpeg: bool) -> None:
    """Be the camera until the process is ended."""
    pixels = scene()
    image = EncodedImage("jpeg", cv2.imencode(".jpg", pixels)[1].tobytes()) if jpeg else pixels
    boxes = np.array([[10, 10, 60, 60], [100, 100, 160, 160]], np.float32)
    with Client(*addresses, timeout_s=60) as client, client.open_stream(CAMERA) as stream:
        started = time.monotonic()
        for number in range(10_000_000):
            time.sleep(max(0.0, started + number / fps - time.monotonic()))
            stream.send(image, Detections(boxes=boxes))


# --- the pages ---


def masked(message: dict) -> bytes:
    """Return a binary frame of a WebSocket client; its mask is 0."""
    data = msgpack.packb(message)
    assert len(data) < 65_536
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x82" + length + bytes(4) + data


class Reader:
    """One page that reads and counts frames with a picture, and does not decode them."""

    def __init__(self, address: str, fps: int) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /viewer/socket HTTP/1.1", f"Host: {address}", f"Origin: http://{address}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", "",
        ]  # fmt: skip
        self.socket.sendall("\r\n".join(lines).encode())
        self._buffer = bytearray()
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self.socket.recv(4096)
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(f"the daemon refused a page: {head.decode()}")
        self._buffer = bytearray(rest)
        self.frames = 0
        wish = {"fps": fps, "width": 1280, "image": True}
        self.socket.sendall(
            masked({"type": "hello", "token": None}) + masked({"type": "watch", "streams": {CAMERA: wish}})
        )

    def read(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise RuntimeError("the daemon has closed a page")
        self._buffer += data
        while len(self._buffer) >= 10:
            length, start = self._buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(self._buffer[2:10], "big"), 10
            if len(self._buffer) < start + length:
                return
            self.frames += length > 2000
            del self._buffer[: start + length]


def read_pages(address: str, pages: int, fps: int) -> None:
    """Be the pages until standard input ends; print the number of frames that all of them got."""
    readers = {reader.socket: reader for reader in (Reader(address, fps) for _ in range(pages))}
    print("open", flush=True)
    while True:
        readable, _, _ = select.select([sys.stdin, *readers], [], [])
        for found in readable:
            if found is sys.stdin:
                print(sum(reader.frames for reader in readers.values()))
                return
            readers[found].read()


@contextmanager
def open_pages(address: str, pages: int, fps: int) -> Iterator[list[float]]:
    """Open pages in a process of its own; the list gets the frames/s of each when they are closed."""
    found: list[float] = []
    if not pages:
        yield found
        found.append(0.0)
        return
    words = [sys.executable, __file__, "--role", "pages", "--at", address, "--pages", str(pages), "--fps", str(fps)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        if process.stdout.readline().strip() != "open":
            raise RuntimeError("the pages could not be opened")
        started = time.monotonic()
        yield found
        process.stdin.close()
        found.append(int(process.stdout.readline()) / (time.monotonic() - started) / pages)


# --- the measurement ---


def measured(at: dict[str, str], daemon: psutil.Process, seconds: float, pages: int, fps: int) -> Measured:
    """Measure the closed loop and the rate of eight streams beside so many pages."""
    with open_pages(at["http"].removeprefix("http://"), pages, fps) as page_fps:
        time.sleep(WARM_UP_S)
        before, started = cpu_s(daemon), time.monotonic()
        (loop,) = measure(Load(fps=math.inf, instances=INSTANCES, seconds=seconds, closed_loop=True), at)
        used = (cpu_s(daemon) - before) / (time.monotonic() - started)
        p50, p99 = np.percentile(1e3 * np.array(loop.round_trips_s[10:]), [50, 99])
        streams = measure(Load(8, math.inf, INSTANCES, seconds=seconds), at)
        if sum(each.sent - each.frames + each.dropped for each in streams):
            raise RuntimeError("frames were lost")
    return Measured(p50, p99, rate(streams), used, page_fps[0])


def rounds(options: argparse.Namespace) -> dict[int, list[Measured]]:
    """Return the measurements by the number of pages."""
    found: dict[int, list[Measured]] = {0: [], options.pages: []}
    with watched(running_daemon([])) as (at, daemon):
        words = [
            sys.executable,
            __file__,
            "--role",
            "camera",
            "--at",
            *(at[name] for name in ("ingest", "tracks", "control")),
        ]
        words += ["--camera-fps", str(options.camera_fps), *(["--jpeg"] if options.jpeg else [])]
        with subprocess.Popen(words) as camera:
            try:
                time.sleep(2)
                for number in range(options.rounds):
                    for pages in sorted(found, reverse=bool(number % 2)):
                        found[pages].append(measured(at, daemon, options.seconds, pages, options.fps))
            finally:
                camera.send_signal(signal.SIGTERM)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--pages", type=int, default=5)
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--camera-fps", type=float, default=CAMERA_FPS)
    parser.add_argument("--jpeg", action="store_true")
    parser.add_argument("--role", choices=["camera", "pages"], help=argparse.SUPPRESS)
    parser.add_argument("--at", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "camera":
        send_frames(options.at, options.camera_fps, options.jpeg)
        return
    if options.role == "pages":
        read_pages(options.at[0], options.pages, options.fps)
        return
    found = rounds(options)
    print(f"{INSTANCES} instances, a camera of 640 × 480; medians of {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'pages':>8} {'p50 ms':>8} {'p99 ms':>8} {'frames/s':>9} {'CPU':>6} {'fps of a page':>14}")
    for pages, values in found.items():
        each = [[v.p50_ms, v.p99_ms, v.rate, v.daemon_cpu, v.page_fps] for v in values]
        p50, p99, frames, used, shown = np.median(each, axis=0)
        print(f"{pages:8} {p50:8.3f} {p99:8.3f} {frames:9.0f} {used:6.2f} {shown:14.1f}")
    without, beside = found[0], found[options.pages]
    slower = float(np.median([b.p50_ms / a.p50_ms for a, b in zip(without, beside, strict=True)])) - 1
    fewer = 1 - float(np.median([b.rate / a.rate for a, b in zip(without, beside, strict=True)]))
    pairs = list(zip(without, beside, strict=True))
    print(Figure.of("closed loop p50 beside pages of the viewer, relative", [b.p50_ms / a.p50_ms for a, b in pairs]))
    rates = [b.rate / a.rate for a, b in pairs]
    print(Figure.of("rate beside pages of the viewer, relative", rates, more_is_better=True))
    print()
    for what, share in (("closed loop p50", slower), ("rate of eight streams", fewer)):
        print(
            Target(
                f"{what} beside {options.pages} pages of the viewer",
                f"≤ {MOST:.0%} worse",
                f"{share:+.1%}",
                share <= MOST,
            )
        )


if __name__ == "__main__":
    main()
