"""What a camera has done so far: rates, losses, ids and latencies."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trackd_client.protocol import Status, Tracks

WINDOW_S = 2.0  # of rates
KEPT = 10_000  # latencies


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a camera at one moment."""

    seconds: float  # since its first frame
    grabbed: int
    detected: int  # frames that the detector has seen
    sent: int
    lost: int  # frames that were not sent: replaced by newer ones, or lost before they could be grabbed
    rejected: int
    grabbed_fps: float
    sent_fps: float
    detections: int  # in the last frame
    ids: tuple[int, ...]  # in the last settlement
    p50_ms: float | None  # from capture to ids, of the last `KEPT` frames
    p99_ms: float | None
    reconnects: int

    @property
    def latency(self) -> str:
        """Both percentiles as text."""
        return "–" if self.p50_ms is None else f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"

    @property
    def line(self) -> str:
        """The state in one line."""
        ids = ", ".join(map(str, self.ids[:12])) + (" …" if len(self.ids) > 12 else "")
        problems = [f"{self.rejected} rejected"] if self.rejected else []
        problems += [f"reconnected {self.reconnects} times"] if self.reconnects else []
        return " · ".join(
            [
                f"{self.grabbed} grabbed ({self.grabbed_fps:.1f} fps)",
                f"{self.detected} detected",
                f"{self.sent} sent ({self.sent_fps:.1f} fps)",
                f"{self.lost} lost",
                *problems,
                f"{self.detections} detections",
                f"ids {ids or 'none'}",
                f"capture to ids {self.latency}",
            ]
        )

    @property
    def summary(self) -> str:
        """The result in one line."""
        rate = self.sent / self.seconds if self.seconds > 0 else 0.0
        rejected = f", {self.rejected} rejected" if self.rejected else ""
        return (
            f"{self.sent} frames in {self.seconds:.1f} s, {rate:.1f} fps, {self.lost} lost{rejected}; "
            f"capture to ids {self.latency}"
        )


class Rate:
    """Events per second over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at: deque[tuple[float, int]] = deque()

    def per_second(self, count: int) -> float:
        """Return the rate, given the count of events so far; call it several times a second."""
        now = self._clock()
        self._at.append((now, count))
        while len(self._at) > 2 and now - self._at[1][0] > WINDOW_S:
            self._at.popleft()
        (then, before), (now, count) = self._at[0], self._at[-1]
        return (count - before) / (now - then) if now > then else 0.0


class Settlements:
    """The ids and the latencies of a stream; one thread adds, any reads."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._latencies_ms: deque[float] = deque(maxlen=KEPT)
        self.ids: tuple[int, ...] = ()

    def add(self, tracks: Tracks) -> None:
        """Add a settlement when it arrives; its capture time is of this host's clock."""
        with self._lock:
            if tracks.status is Status.TRACKED and tracks.track_ids is not None:
                self._latencies_ms.append((self._now_ns() - tracks.t_ns) / 1e6)
                self.ids = tuple(sorted(int(i) for i in tracks.track_ids if i >= 0))

    def percentiles(self) -> tuple[float, float] | None:
        """Return the 50th and the 99th percentile of the latencies in ms; None for none."""
        with self._lock:
            known = np.array(self._latencies_ms)
        return (float(np.percentile(known, 50)), float(np.percentile(known, 99))) if len(known) else None
