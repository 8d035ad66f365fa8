"""A camera above a tank of animals, bright squares that swim in circles, and what is published of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from daemon_process import wait_until

from trackd_client import Client, Detections, TrackdError, Tracks

WIDTH, HEIGHT = 480, 360
SIDE = 24  # pixels of an animal
RADIUS = 26


def centres(count: int, seq: int, step: float) -> np.ndarray:
    """Return (count, 2) pixels: each animal on a circle of its own; the circles do not touch."""
    columns = int(np.ceil(np.sqrt(count * WIDTH / HEIGHT)))
    rows = int(np.ceil(count / columns))
    n = np.arange(count)
    cell = np.array([WIDTH / columns, HEIGHT / rows])
    middle = (np.stack([n % columns, n // columns], axis=1) + 0.5) * cell
    angle = seq * step + n
    radius = min(RADIUS, (cell.min() - SIDE) / 2 - 1)
    return middle + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


class Tank:
    """Sends frames on a thread of its own, and keeps what is published, until it is closed.

    Args:
        addresses: of the daemon.
        name: of the stream.
        count: animals.
        step: radians that each animal moves in a frame.
        pace_s: between two frames.
        pictures: whether frames have one.
        config: of the stream.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        name: str,
        count: int = 5,
        step: float = 0.3,
        pace_s: float = 0.05,
        pictures: bool = True,
        config: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self.missing: frozenset[int] = frozenset()  # animals that the detector does not see
        self.published: dict[int, Tracks] = {}  # by seq; of the last epoch
        self._epoch = -1
        self._count, self._step, self._pace_s, self._pictures = count, step, pace_s, pictures
        self._stopping = threading.Event()
        self._addresses = {kind: addresses[kind] for kind in ("ingest", "tracks", "control")}
        self.client = Client(**self._addresses)
        self._stream = self.client.open_stream(name, config=dict(config or {}))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._follow)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        seq = 0
        while not self._stopping.wait(self._pace_s):
            places = centres(self._count, seq, self._step)
            seen = np.array([i for i in range(self._count) if i not in self.missing], int)
            corners = np.round(places[seen] - SIDE / 2)
            boxes = np.concatenate([corners, corners + SIDE], axis=1).astype(np.float32)
            image = None
            if self._pictures:
                image = np.zeros((HEIGHT, WIDTH), np.uint8)
                for x1, y1, x2, y2 in boxes.astype(int):
                    image[y1:y2, x1:x2] = 255
            self._stream.send(image, Detections(boxes=boxes), timeout_s=120)
            seq += 1

    def _follow(self) -> None:
        with Client(**self._addresses) as client:
            while not self._stopping.is_set():
                try:
                    for tracks in client.tracks(self.name, timeout_s=2):
                        if tracks.epoch != self._epoch:  # a daemon that was started again counts from 0
                            self.published, self._epoch = {}, tracks.epoch
                        self.published[tracks.seq] = tracks
                        if len(self.published) > 5000:
                            self.published.pop(next(iter(self.published)))
                        if self._stopping.is_set():
                            return
                except TrackdError:  # nothing arrived for a while
                    continue

    def at(self, seq: int, epoch: int) -> Tracks:
        """Return what was published of a frame of the last epoch."""
        wait_until(lambda: self._epoch == epoch and seq in self.published, 30, f"the settlement of frame {seq}")
        return self.published[seq]

    def first_of(self, epoch: int) -> int:
        """Return the first seq of an epoch that this subscriber got; one that connects late misses some."""
        wait_until(lambda: self._epoch == epoch and bool(self.published), 60, f"a settlement of epoch {epoch}")
        return min(self.published)

    def next(self) -> Tracks:
        """Return a settlement that is published from now on."""
        last = max(self.published, default=-1)
        wait_until(lambda: max(self.published, default=-1) > last + 1, 60, "another settlement")
        return self.published[max(self.published)]

    def id_of(self, animal: int) -> int:
        """Return the present id of an animal."""
        tracks = self.next()
        assert not self.missing
        return int(tracks.track_ids[animal])

    def close(self) -> None:
        """Send no more frames."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
        with suppress(TrackdError):  # the daemon may have ended
            self._stream.close(timeout_s=10)
        self.client.close()

    def __enter__(self) -> Tank:
        deadline = time.monotonic() + 60
        while not self.published:
            assert time.monotonic() < deadline, "nothing was published within 60 s"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
