"""What the daemon's clock shows when this host's shows something else, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

# What two quartz clocks may drift apart: NTP reckons with 15 millionths for each.
DRIFT = 30e-6


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The daemon's clock seen from this host.

    Attributes:
        offset_ns: the daemon's clock minus this host's.
        uncertainty_ns: the true offset is no further away than this, either way.
    """

    offset_ns: int
    uncertainty_ns: int

    def daemon_ns(self, t_ns: int) -> int:
        """A moment of this host's clock, as the daemon's shows it; both Unix ns."""
        return t_ns + self.offset_ns


@dataclass(frozen=True, slots=True)
class CaptureLatency:
    """How old a frame was.

    Attributes:
        latency_ns: from its capture on.
        uncertainty_ns: the true latency is no further away than this, either way.
    """

    latency_ns: int
    uncertainty_ns: int


class Clock:
    """Keeps the best of the samples that pings give.

    The daemon read its clock somewhere between a ping's going and its coming back, so half of the round trip is as far
    as the middle can be wrong. A kept sample grows worse with its age, by the drift of two clocks, until one of a
    longer round trip is the better one. Neither a clock nor a socket is touched here.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._kept: tuple[int, int, int] | None = None  # offset, half of the round trip, when it came; all in ns

    def take(self, sent_ns: int, daemon_ns: int, received_ns: int) -> None:
        """Take in an answered ping.

        Args:
            sent_ns: when it went, by this host's clock.
            daemon_ns: the daemon's clock in the answer.
            received_ns: when that came, by this host's clock.
        """
        if received_ns < sent_ns:
            return  # this host's clock was set back in between
        half_ns = (received_ns - sent_ns + 1) // 2
        offset_ns = daemon_ns - (sent_ns + received_ns) // 2
        kept = self.at(received_ns)
        # Two samples that cannot both be true: one of the clocks was set meanwhile, and the new one counts.
        agree = kept is None or abs(offset_ns - kept.offset_ns) <= half_ns + kept.uncertainty_ns
        if kept is None or not agree or half_ns <= kept.uncertainty_ns:
            self._kept = offset_ns, half_ns, received_ns
        self.samples += 1

    def at(self, now_ns: int) -> ClockOffset | None:
        """The offset, as sure as it is at a moment of this host's clock; None before the first sample."""
        if self._kept is None:
            return None
        offset_ns, half_ns, taken_ns = self._kept
        return ClockOffset(offset_ns, half_ns + int(abs(now_ns - taken_ns) * DRIFT))
