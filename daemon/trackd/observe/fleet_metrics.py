"""The metrics of a member of a fleet."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trackd.fleet.figures import FleetFigures

_APPEND_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


class FleetMetrics(Collector):
    """The counts of a member, as they are at the scrape."""

    def __init__(self, figures: FleetFigures, registry: CollectorRegistry) -> None:
        self._figures = figures
        appends = Histogram(
            "trackd_fleet_append_seconds",
            "Time from an append to the log until a majority of the servers has it on disk, repetitions included",
            buckets=_APPEND_S,
            registry=registry,
        )
        figures.observe_append = appends.observe
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return all but the histogram."""
        figures = self._figures
        owned = GaugeMetricFamily("trackd_fleet_streams_owned", "Streams that this member owns", figures.owned)
        lease = GaugeMetricFamily(
            "trackd_fleet_lease_age_seconds",
            "Time since this member has renewed its lease; the others take it as gone after daemon.fleet.lease_s",
            time.monotonic() - figures.renewed_s if figures.renewed_s else float("inf"),
        )
        counts = (
            ("claims", "Streams that this member has claimed", figures.claims),
            ("takeovers", "Claims of streams that another member, or an earlier process, had", figures.takeovers),
            (
                "fence_refusals",
                "Appends that the store refused, since another member has the stream",
                figures.fence_refusals,
            ),
            ("streams_moved", "Streams that this member has handed on", figures.moved),
            ("log_bytes", "Bytes that this member has appended to the log", figures.log_bytes),
        )
        return [owned, lease, *(CounterMetricFamily(f"trackd_fleet_{name}", text, n) for name, text, n in counts)]
