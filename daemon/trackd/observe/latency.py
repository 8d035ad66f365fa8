"""The time of settled frames in each stage, as a Prometheus histogram."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from trackd_client.protocol import STAGES, Timing

EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_EDGES_US = [round(edge * 1e6) for edge in EDGES_S]  # integers, as the times: floats take longer to compare
_FIRST_US = _EDGES_US[0]


class Latency(Collector):
    """A histogram that one thread writes, the IO thread; `prometheus_client.Histogram` locks twice per observation.

    A scrape may read a frame that is counted in some stages only; the next scrape has it in all.
    """

    def __init__(self) -> None:
        self._counts = [[0] * (len(EDGES_S) + 1) for _ in STAGES]
        self._sums_us = [0] * len(STAGES)

    def observe(self, timing: Timing) -> None:
        """Add the times of a settled frame."""
        counts, sums = self._counts, self._sums_us
        for place, us in enumerate((timing.queue, timing.encode, timing.associate, timing.journal, timing.total)):
            counts[place][bisect_left(_EDGES_US, us) if us > _FIRST_US else 0] += 1
            sums[place] += us

    def collect(self) -> Iterable[Metric]:
        """Return the cumulative buckets."""
        family = HistogramMetricFamily(
            "trackd_latency_seconds",
            "Time of a settled frame in each stage; total is from receipt to publish",
            labels=["stage"],
        )
        edges = [*map(floatToGoString, EDGES_S), "+Inf"]
        for stage, counts, total_us in zip(STAGES, self._counts, self._sums_us, strict=True):
            family.add_metric([stage], list(zip(edges, accumulate(counts), strict=True)), total_us / 1e6)
        return [family]
