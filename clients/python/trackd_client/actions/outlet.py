"""An action with its queue, its thread and its counts: a slow receiver never delays the next frame."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from trackd_client.actions.action import Action, ActionFailed
from trackd_client.triggers.firing import Firing

logger = logging.getLogger(__name__)

WINDOW = 4096  # the last latencies, of which the percentiles are shown
SAY_AGAIN_S = 1.0  # between two lines about the same fault of an action


@dataclass(frozen=True, slots=True)
class Delay:
    """Percentiles in milliseconds of the last `WINDOW` messages of an action."""

    n: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, values_ns: deque[int]) -> Delay:
        """Return the percentiles; NaN for no value."""
        values = np.array(values_ns, np.float64) / 1e6
        p50, p99 = np.percentile(values, [50, 99]) if len(values) else (np.nan, np.nan)
        return cls(len(values), float(p50), float(p99))

    def __str__(self) -> str:
        return f"p50 {self.p50_ms:.2f} ms p99 {self.p99_ms:.2f} ms"


class Outlet:
    """Sends firings through one action.

    Args:
        name: of the action, for the log.
        action: an immediate one is sent on the calling thread; any other has a queue and a thread.
        queue_length: firings that wait; when the queue is full, further ones are not sent.
    """

    def __init__(self, name: str, action: Action, queue_length: int) -> None:
        self.name = name
        self.sent = 0
        self.failed = 0
        self.overflowed = 0
        self._action = action
        self._behind_tracks: deque[int] = deque(maxlen=WINDOW)
        self._behind_capture: deque[int] = deque(maxlen=WINDOW)
        self._said: dict[str, float] = {}
        self._queue: queue.Queue[tuple[Firing, int] | None] | None = None
        self._thread: threading.Thread | None = None
        if not action.is_immediate:
            self._queue = queue.Queue(queue_length)
            self._thread = threading.Thread(target=self._run, name=f"action {name}", daemon=True)
            self._thread.start()

    def send(self, firing: Firing, received_ns: int) -> None:
        """Send a firing, or queue it.

        Args:
            firing: what fired.
            received_ns: when its settlement was received, by `time.monotonic_ns`.
        """
        if self._queue is None:
            self._send(firing, received_ns)
            return
        try:
            self._queue.put_nowait((firing, received_ns))
        except queue.Full:
            self.overflowed += 1
            self._say(
                "overflow", f"its queue of {self._queue.maxsize} is full; {self.overflowed} messages were not sent"
            )

    @property
    def behind_tracks(self) -> Delay:
        """From the receipt of the settlement to the end of `send`."""
        return Delay.of(self._behind_tracks.copy())

    @property
    def behind_capture(self) -> Delay:
        """From the capture of the frame, by this host's clock, to the end of `send`."""
        return Delay.of(self._behind_capture.copy())

    def close(self, timeout_s: float = 1.0) -> None:
        """Send what is queued, for at most `timeout_s`, and close the action."""
        if self._queue is not None and self._thread is not None:
            try:
                self._queue.put(None, timeout=timeout_s)
                self._thread.join(timeout_s)
            except queue.Full:
                pass
            if self._thread.is_alive():
                self._say("end", f"{self._queue.qsize()} messages were not sent before the end")
                return  # its thread still uses the action
        self._action.close()

    def report(self) -> str:
        """Return one line with the counts and the latencies."""
        counts = f"sent {self.sent}, failed {self.failed}, overflowed {self.overflowed}"
        if not self.sent:
            return f"action={self.name}: {counts}"
        return f"action={self.name}: {counts}; behind tracks {self.behind_tracks}; from capture {self.behind_capture}"

    def _run(self) -> None:
        assert self._queue is not None
        while (item := self._queue.get()) is not None:
            self._send(*item)

    def _send(self, firing: Firing, received_ns: int) -> None:
        try:
            self._action.send(firing)
        except Exception as error:  # whatever a library raises, the other actions and the rules go on
            self.failed += 1
            self._say("failure", f"rule={firing.rule}: not sent ({self.failed} so far): {_line(error)}")
            return
        self.sent += 1
        self._behind_tracks.append(time.monotonic_ns() - received_ns)
        self._behind_capture.append(time.time_ns() - firing.t_ns)
        logger.info(
            "action=%s rule=%s stream=%s seq=%d track=%s: sent %.3f ms behind tracks, %.1f ms from capture",
            self.name, firing.rule, firing.stream, firing.seq, firing.track,
            self._behind_tracks[-1] / 1e6, self._behind_capture[-1] / 1e6,
        )  # fmt: skip

    def _say(self, kind: str, text: str) -> None:
        """Log a fault, at most once in `SAY_AGAIN_S`."""
        now = time.monotonic()
        if now - self._said.get(kind, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said[kind] = now
            logger.warning("action=%s: %s", self.name, text)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text and isinstance(error, ActionFailed | OSError) else f"{type(error).__name__}: {text}"
