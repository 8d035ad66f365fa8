"""The metrics that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trackd.engine.inbox import Inbox
from trackd.models.device_figures import FIGURES
from trackd.observe.latency import Latency
from trackd.tracking.correction import Action
from trackd_client.protocol import ErrorCode

AUTH_REASONS = ("unknown_key", "no_permission", "handshake", "subscription", "upstream", "forbidden")
TRACE_OUTCOMES = ("exported", "queue_full", "export_failed")
LONG_STEP_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# The label of the sum over all closed streams; no stream can have this name.
CLOSED_STREAMS = "(closed)"


class Metrics:
    """The daemon's metrics, in a registry of their own."""

    def __init__(self, inbox: Inbox) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Ledgers(inbox))
        self.latency = Latency()
        self.registry.register(self.latency)
        self.errors = Counter(
            "trackd_errors", "Messages refused, by code, without rejected frames", ["code"], registry=self.registry
        )
        self.auth_rejected = Counter(
            "trackd_auth_rejected",
            "Connections and requests that CURVE or a grant refused, by reason; 0 without CURVE",
            ["reason"],
            registry=self.registry,
        )
        for reason in AUTH_REASONS:
            self.auth_rejected.labels(reason=reason)
        self.unsent_replies = Counter(
            "trackd_unsent_replies", "Replies that a client did not read in time", registry=self.registry
        )
        self.unsent_records = Counter(
            "trackd_unsent_records",
            "Large records that were not published, since subscribers had not read too many bytes",
            registry=self.registry,
        )
        self.output_errors = Counter(
            "trackd_output_errors", "Records that could not be written to an output", registry=self.registry
        )
        self.identity_events = Counter(
            "trackd_identity_events", "What was found of animals' identities, by event", ["event"],
            registry=self.registry,
        )  # fmt: skip
        for event in ("swap_suspected", "swap_corrected", "recognised"):
            self.identity_events.labels(event=event)
        self.corrections = Counter(
            "trackd_corrections", "Corrections of tracks by people, by action", ["action"], registry=self.registry
        )
        for action in Action:
            self.corrections.labels(action=str(action))
        self.traces = Counter(
            "trackd_traces",
            "Frames whose spans were exported, or lost since the queue was full or the export failed",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in TRACE_OUTCOMES:
            self.traces.labels(outcome=outcome)
        self.long_steps = Histogram(
            "trackd_long_step_seconds",
            "Time of the steps that were expected to be long, each on a thread beside the others",
            buckets=LONG_STEP_S,
            registry=self.registry,
        )
        self.registry.register(_Device())
        self.ready = Gauge("trackd_ready", "1 while the daemon accepts frames", registry=self.registry)

    @property
    def n_output_errors(self) -> int:
        """The number of records and files that could not be written."""
        return int(self.registry.get_sample_value("trackd_output_errors_total") or 0)

    def refused(self, code: ErrorCode) -> None:
        """Count a message that was answered with an error."""
        self.errors.labels(code=str(code)).inc()
        if code is ErrorCode.FORBIDDEN:
            self.auth_rejected.labels(reason="forbidden").inc()


class _Ledgers(Collector):
    """The frame counts of one moment: received = tracked + dropped + rejected + queued at every scrape."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def collect(self) -> Iterable[Metric]:
        ledgers, active, closed = self._inbox.snapshot()
        ledgers[CLOSED_STREAMS] = closed
        received = CounterMetricFamily("trackd_frames_received", "Frames accepted", labels=["stream"])
        tracked = CounterMetricFamily("trackd_frames_tracked", "Frames tracked", labels=["stream"])
        dropped = CounterMetricFamily("trackd_frames_dropped", "Frames dropped", labels=["stream", "reason"])
        rejected = CounterMetricFamily("trackd_frames_rejected", "Frames rejected", labels=["stream", "code"])
        queued = GaugeMetricFamily("trackd_frames_queued", "Frames accepted and not settled", labels=["stream"])
        for stream, ledger in ledgers.items():
            received.add_metric([stream], ledger.received)
            tracked.add_metric([stream], ledger.tracked)
            queued.add_metric([stream], ledger.queued)
            for reason, count in ledger.dropped.items():
                dropped.add_metric([stream, reason], count)
            for code, count in ledger.rejected.items():
                rejected.add_metric([stream, code], count)
        tracks = GaugeMetricFamily("trackd_tracks_active", "Tracks alive", labels=["stream"])
        for stream, count in active.items():
            tracks.add_metric([stream], count)
        streams = GaugeMetricFamily("trackd_streams_open", "Streams open")
        streams.add_metric([], len(active))
        return [received, tracked, dropped, rejected, queued, tracks, streams]


class _Device(Collector):
    """What has happened to the device of the checkpoints."""

    def collect(self) -> Iterable[Metric]:
        full = CounterMetricFamily("trackd_device_memory_full", "Times that a step found the device's memory full")
        full.add_metric([], FIGURES.full)
        return [full]
