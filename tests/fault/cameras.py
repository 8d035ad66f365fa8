"""Four cameras in a separate process: the load of the kill matrix, which kills this process too.

    python cameras.py INGEST TRACKS CONTROL

opens the streams `cam0` to `cam3` with `takeover`, continues each at the seq that the daemon expects, and ends at the
end of its stdin, once all frames are settled. A frame's detections are a function of the camera and the index, so that
another process can continue a stream, and another run is the same.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from trackd_client import Client, Detections, Stream

STREAMS = [f"cam{camera}" for camera in range(4)]
OPEN_S = 60.0
_PACE_S = 0.004
_N_OBJECTS = 5


def detections(camera: int, index: int) -> Detections:
    """A frame's detections: objects that cross, are missed at random, and leave and return."""
    number = np.arange(_N_OBJECTS)
    x = 320 + 250 * np.sin(index / (40 + 9 * number) + 2 * number + camera)
    y = 240 + 180 * np.cos(index / (55 - 4 * number) + number + camera)
    away = (index + 47 * number + 13 * camera) % 170 < 30
    missed = np.random.default_rng((camera, index)).random(_N_OBJECTS) < 0.1
    visible = ~(away | missed)
    return Detections(boxes=np.stack([x - 30, y - 40, x + 30, y + 40], axis=1)[visible].astype("<f4"))


def send_next(stream: Stream, camera: int) -> None:
    """Send a camera's next frame; its index is its seq."""
    index = stream.next_seq
    stream.send(None, detections(camera, index), frame_index=index, t_ns=index * 40_000_000)


class Cameras:
    """The process, for a test."""

    def __init__(self, at: dict[str, str]) -> None:
        command = [sys.executable, __file__, at["ingest"], at["tracks"], at["control"]]
        # The process would block on a full pipe that is not read.
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "open\n":  # the process ends within OPEN_S
            self.kill()
            raise AssertionError(f"the cameras opened no streams: {self.stderr()}")

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=10)

    def stop(self) -> list[int]:
        """End the process once all frames are settled; return how many frames each stream has had."""
        out, _ = self.process.communicate(timeout=OPEN_S + 30)
        assert self.process.returncode == 0, self.stderr()
        return [int(word) for word in out.split()]

    def stderr(self) -> str:
        """Return what the process wrote on stderr."""
        self._stderr.seek(0)
        return self._stderr.read()


def _feed(stream: Stream, camera: int, stopping: threading.Event) -> int:
    while not stopping.wait(_PACE_S):
        send_next(stream, camera)
    stream.flush()
    return stream.next_seq


def _main(ingest: str, tracks: str, control: str) -> None:
    stopping = threading.Event()
    with Client(ingest, tracks, control, timeout_s=OPEN_S) as client, ThreadPoolExecutor(len(STREAMS)) as threads:
        streams = [client.open_stream(name, takeover=True) for name in STREAMS]
        print("open", flush=True)
        feeds = [threads.submit(_feed, stream, camera, stopping) for camera, stream in enumerate(streams)]
        while not (any(feed.done() for feed in feeds) or _stdin_ended()):
            time.sleep(0.02)
        stopping.set()
        print(*(feed.result() for feed in feeds), flush=True)


def _stdin_ended() -> bool:
    return not _stdin_reader.is_alive()


if __name__ == "__main__":
    _stdin_reader = threading.Thread(target=sys.stdin.read, daemon=True)
    _stdin_reader.start()
    _main(*sys.argv[1:])
