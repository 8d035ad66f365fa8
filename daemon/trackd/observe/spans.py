"""OpenTelemetry spans of settled frames; imported only with `daemon.telemetry`, since the library is optional.

A frame is a span `frame`, from its receipt to its publication. Below it are `queue`, and for a tracked frame `encode`,
`score`, `assign` and, with a journal, `journal`, and then `publish`. Each begins where the one before it ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from trackd.observe.frame_times import FrameTimes
from trackd_client.protocol import Status
from trackd_client.version import VERSION

_EXPORT_S = 3.0  # for one export with its repetitions; a stop waits for one


class _Ended(SpanProcessor):
    """Collects the spans that have ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep the span."""
        self.spans.append(span)


class FrameSpans:
    """Makes the spans of frames, and exports them.

    Args:
        exporter: sends spans.
        share: of the frames without a trace context of their client, 0 to 1. With one, its sampled flag decides.
    """

    def __init__(self, exporter: SpanExporter, share: float = 1.0) -> None:
        self._exporter = exporter
        self._ended = _Ended()
        resource = Resource.create({"service.name": "trackd", "service.version": VERSION})
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("trackd", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def export(self, frames: Sequence[FrameTimes]) -> bool:
        """Export the spans of these frames; return whether the collector has taken them."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        for frame in frames:
            self._make(frame, offset_ns)
        spans, self._ended.spans = self._ended.spans, []
        return not spans or self._exporter.export(spans) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Free the connection."""
        self._exporter.shutdown()

    def _make(self, frame: FrameTimes, offset_ns: int) -> None:
        span = self._tracer.start_span(
            "frame",
            self._context(frame.traceparent),
            kind=trace.SpanKind.CONSUMER,
            attributes=_attributes(frame),
            start_time=frame.received_ns + offset_ns,
        )
        if span.is_recording():
            if frame.status == Status.REJECTED:
                span.set_status(trace.StatusCode.ERROR, frame.reason)
            below = trace.set_span_in_context(span, Context())
            for name, start_ns, end_ns in stages(frame):
                stage = self._tracer.start_span(name, below, start_time=start_ns + offset_ns)
                stage.end(end_ns + offset_ns)
        span.end(frame.published_ns + offset_ns)

    def _context(self, traceparent: str | None) -> Context:
        """Return the context of a client's `traceparent`; an empty one if there is none or it is not valid."""
        if traceparent is None:
            return Context()
        return self._propagator.extract({"traceparent": traceparent}, Context())


def stages(frame: FrameTimes) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end (monotonic ns) of a frame's stages, in order, without gaps."""
    ends = [("queue", frame.taken_ns)]
    if frame.status == Status.TRACKED:
        ends += [("encode", frame.encoded_ns), ("score", frame.scored_ns), ("assign", frame.associated_ns)]
    if frame.stored_ns is not None:
        ends.append(("journal", frame.stored_ns))
    ends.append(("publish", frame.published_ns))
    start_ns = frame.received_ns
    for name, end_ns in ends:
        yield name, start_ns, end_ns
        start_ns = end_ns


def _attributes(frame: FrameTimes) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "trackd.stream": frame.stream,
        "trackd.epoch": frame.epoch,
        "trackd.seq": frame.seq,
        "trackd.frame_index": frame.frame_index,
        "trackd.status": str(frame.status),
        "trackd.instances": frame.instances,
    }
    if frame.reason is not None:
        attributes["trackd.reason"] = frame.reason
    return attributes


def otlp_export(address: str, share: float) -> FrameSpans:
    """Return the export to an OTLP/HTTP collector.

    Args:
        address: of the collector; `/v1/traces` is added if it has no path.
        share: as for `FrameSpans`.
    """
    # It logs each attempt that fails; `Traces` logs the first one.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    endpoint = address if urlsplit(address).path.strip("/") else address.rstrip("/") + "/v1/traces"
    return FrameSpans(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S), share)
