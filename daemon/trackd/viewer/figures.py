"""The figures of the streams, once a second: rate, latency, queue, drops and rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trackd.engine.inbox import Inbox
from trackd.engine.queue import Ledger
from trackd.viewer.hub import Slot, StreamRow

_LEAST_NS = 500_000_000  # over which a rate is measured


class Figures:
    """Computes them from the counts that the daemon keeps in any case; only the viewer's thread uses it."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._measured: dict[str, tuple[int, int, float]] = {}  # by stream: settled frames, when, the rate then

    def of(
        self, rows: Sequence[StreamRow], watched: Mapping[str, Slot], now_ns: int
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        """Return the rows of the streams, and the figures of each that is open.

        Args:
            rows: the open and the unavailable streams.
            watched: their slots, which have the times of the frames of watched streams.
            now_ns: monotonic.
        """
        ledgers, active, _ = self._inbox.snapshot()
        self._measured = {name: value for name, value in self._measured.items() if name in ledgers}
        shown, figures = [], {}
        for row in rows:
            ledger = ledgers.get(row.stream, Ledger())
            shown.append(_row(row, ledger, active.get(row.stream, 0)))
            if row.unavailable is None:
                slot = watched.get(row.stream)
                figures[row.stream] = {
                    "rate": self._rate(row.stream, ledger.received - ledger.queued, now_ns),
                    "latency_ms": None if slot is None else _percentiles_ms(list(slot.totals_us)),
                    "queue_depth": row.queue_depth,
                    "drops": dict(ledger.dropped),
                    "rejects": ledger.rejected.total(),
                    "rejects_by_code": {str(code): count for code, count in ledger.rejected.items()},
                }
        return shown, figures

    def _rate(self, stream: str, settled: int, now_ns: int) -> float:
        """Return the settled frames per second since the last measurement."""
        before, at_ns, rate = self._measured.get(stream, (settled, now_ns, 0.0))
        if stream not in self._measured:
            self._measured[stream] = settled, now_ns, 0.0
        elif now_ns - at_ns >= _LEAST_NS:
            rate = max(0, settled - before) / (now_ns - at_ns) * 1e9
            self._measured[stream] = settled, now_ns, rate
        return round(rate, 2)


def _row(row: StreamRow, ledger: Ledger, active_tracks: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "stream": row.stream,
        "epoch": row.epoch,
        "model": row.model,
        "next_seq": row.next_seq,
        "queued": ledger.queued,
        "active_tracks": active_tracks,
        "received": ledger.received,
        "tracked": ledger.tracked,
        "dropped": ledger.dropped.total(),
        "rejected": ledger.rejected.total(),
        "skeleton": None if row.skeleton is None else asdict(row.skeleton),
        "frame_shape": None if row.frame_shape is None else list(row.frame_shape),
        "zones_number": row.zones_number,
        "recording": None if row.recording is None else dict(row.recording),
    }
    if row.unavailable is not None:
        shown["unavailable"] = row.unavailable
    return shown


def _percentiles_ms(totals_us: list[int]) -> list[float] | None:
    """Return the median and the 99th percentile in ms; None without frames."""
    if not totals_us:
        return None
    totals_us.sort()
    last = len(totals_us) - 1
    return [totals_us[last // 2] / 1e3, totals_us[round(last * 0.99)] / 1e3]
