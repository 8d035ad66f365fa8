"""The way of each frame as OpenTelemetry spans, made afterwards from the times in its settlement.

The IO thread only puts a few numbers into a bounded queue. A thread of its own makes the spans (`spans.py`) and exports
them. What the queue cannot hold, and what the collector does not take, is counted and lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from prometheus_client import Counter

from trackd.config import DaemonConfig
from trackd.engine.outcome import Settlement
from trackd.observe.frame_times import FrameTimes
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

MOST_WAITING = 2048  # frames
MOST_TOGETHER = 64  # frames of one export
_POLL_S = 0.1
_STOP_NS = 2_000_000_000  # after a stop, for what waits


class SpanExport(Protocol):
    """Makes spans of frames and sends them; used by one thread."""

    def export(self, frames: Sequence[FrameTimes]) -> bool:
        """Export the spans of these frames; return whether the collector has taken them."""

    def close(self) -> None:
        """Free the connection; no call follows."""


class Traces:
    """The queue of frames whose spans are to be exported, and its thread.

    Args:
        export: receives the frames.
        counter: counts frames by `outcome`.
        clock: monotonic ns.
    """

    def __init__(self, export: SpanExport, counter: Counter, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._export = export
        self._counter = counter
        self._clock = clock
        self._waiting: deque[FrameTimes] = deque()
        self._lost = 0  # frames that the queue had no room for; only the IO thread writes it
        self._lost_counted = 0
        self._stopping = threading.Event()
        self._stop_ns = 0  # when a stop gives up what waits
        self._fails = False

    def put(self, settlement: Settlement, stored_ns: int | None) -> None:
        """Add a frame that was published just now, or count it as lost. The IO thread calls this; it never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        head, detections = settlement.head, settlement.detections
        self._waiting.append(
            FrameTimes(
                head.stream, settlement.epoch, head.seq, head.frame_index, head.traceparent, settlement.status,
                settlement.reason, 0 if detections is None else len(detections), settlement.received_ns,
                settlement.taken_ns, settlement.encoded_ns, settlement.scored_ns, settlement.associated_ns, stored_ns,
                self._clock(),
            )
        )  # fmt: skip

    def run(self) -> None:
        """Export until `stop` is called, and then what waits, as far as the collector takes it at once."""
        while not self._stopping.wait(_POLL_S):
            self.export_waiting()
        self.export_waiting()
        self._export.close()

    def stop(self) -> None:
        """Let `run` return. Any thread may call this."""
        self._stop_ns = self._clock() + _STOP_NS
        self._stopping.set()

    def export_waiting(self) -> None:
        """Export what is in the queue; while stopping, count it as lost after a failure or when the time is over."""
        while self._waiting:
            frames = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            if self._stopping.is_set() and (self._fails or self._clock() > self._stop_ns):
                self._counter.labels(outcome="export_failed").inc(len(frames))
                continue
            try:
                taken = self._export.export(frames)
            except Exception as error:  # of the library: a frame's spans are never worth the daemon
                logger.debug("spans could not be exported", exc_info=error)
                taken = False
            self._counter.labels(outcome="exported" if taken else "export_failed").inc(len(frames))
            if taken is self._fails:
                self._fails = not taken
                logger.warning(
                    "the collector of daemon.telemetry takes spans again" if taken
                    else "the collector of daemon.telemetry does not take spans; they are lost until it does"
                )  # fmt: skip
        if (lost := self._lost) > self._lost_counted:
            self._counter.labels(outcome="queue_full").inc(lost - self._lost_counted)
            self._lost_counted = lost


def open_traces(config: DaemonConfig, counter: Counter) -> Traces | None:
    """Return the traces of a daemon; None if `daemon.telemetry` is null.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if config.telemetry is None:
        return None
    try:
        from trackd.observe.spans import otlp_export
    except ImportError as error:
        raise ConfigError(
            f"daemon.telemetry needs OpenTelemetry, which is not installed ({error.name}): pip install 'trackd[otel]'"
        ) from None
    return Traces(otlp_export(config.telemetry, config.telemetry_share), counter)
