"""The offset of the daemon's clock from this host's clock, and its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

# The largest relative drift of two quartz clocks. NTP assumes 15e-6 for each.
DRIFT = 30e-6


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The daemon's clock relative to this host's clock.

    Attributes:
        offset_ns: the daemon's clock minus this host's.
        uncertainty_ns: the true offset differs from `offset_ns` by at most this.
    """

    offset_ns: int
    uncertainty_ns: int

    def daemon_ns(self, t_ns: int) -> int:
        """Convert a time of this host's clock to the daemon's clock; both Unix ns."""
        return t_ns + self.offset_ns


@dataclass(frozen=True, slots=True)
class CaptureLatency:
    """The age of a frame.

    Attributes:
        latency_ns: the time since its capture.
        uncertainty_ns: the true latency differs from `latency_ns` by at most this.
    """

    latency_ns: int
    uncertainty_ns: int


class Clock:
    """The best sample of the pings so far, without I/O and without reading a clock.

    The daemon reads its clock at some moment between the ping and its answer. The estimate assumes the middle of the
    round trip, so its error is at most half of the round trip. The uncertainty of a sample grows with its age, by the
    drift of the two clocks, until a newer sample of a longer round trip is better.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._kept: tuple[int, int, int] | None = None  # offset, half of the round trip, time of receipt; all in ns

    def clear(self) -> None:
        """Forget the samples: the next ones are of another daemon's clock."""
        self._kept = None

    def add_sample(self, sent_ns: int, daemon_ns: int, received_ns: int) -> None:
        """Add the sample of an answered ping.

        Args:
            sent_ns: the time of sending, by this host's clock.
            daemon_ns: the daemon's clock in the answer.
            received_ns: the time of receipt, by this host's clock.
        """
        if received_ns < sent_ns:
            return  # this host's clock was set back between the two
        half_ns = (received_ns - sent_ns + 1) // 2
        offset_ns = daemon_ns - (sent_ns + received_ns) // 2
        kept = self.at(received_ns)
        # If the two intervals do not overlap, one of the clocks was set since the last sample: use the new sample.
        agree = kept is None or abs(offset_ns - kept.offset_ns) <= half_ns + kept.uncertainty_ns
        if kept is None or not agree or half_ns <= kept.uncertainty_ns:
            self._kept = offset_ns, half_ns, received_ns
        self.samples += 1

    def at(self, now_ns: int) -> ClockOffset | None:
        """Return the offset with its uncertainty at a time of this host's clock, or None before the first sample."""
        if self._kept is None:
            return None
        offset_ns, half_ns, taken_ns = self._kept
        return ClockOffset(offset_ns, half_ns + int(abs(now_ns - taken_ns) * DRIFT))
