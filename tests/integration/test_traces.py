"""A daemon exports the spans of its frames over OTLP/HTTP, and tracks on if nobody takes them."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon_process import DaemonProcess
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from trackd_client import AsyncClient, Client, Detections, Status

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
STAGES = ["queue", "encode", "score", "assign", "journal", "publish"]
WAIT_S = 60.0


class Collector(ThreadingHTTPServer):
    """Receives exports; `spans` has all of them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.paths: set[str] = set()
        self.services: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait_for(self, frames: int) -> list[Any]:
        """Return the spans once those of so many frames are here."""
        deadline = time.monotonic() + WAIT_S
        while sum(span.name == "frame" for span in self.spans) < frames:
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)
        return list(self.spans)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.server.services |= {
                item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.server.paths.add(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def boxes(step: int) -> Detections:
    return Detections(boxes=np.array([[10 + step, 20, 50 + step, 60], [300, 20, 340, 60]], np.float32))


def test_the_spans_of_each_frame_arrive_over_http_in_the_trace_of_its_client(
    collector: Collector, tmp_path: Path
) -> None:
    before_ns = time.time_ns()
    overrides = [f"daemon.telemetry={collector.address}", f"daemon.state_dir={tmp_path}"]
    with (
        DaemonProcess(*overrides) as daemon,
        Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=WAIT_S) as client,
        client.open_stream("camera", reply="tracks") as stream,
    ):
        for step in range(20):
            context = f"00-{TRACE}-{CALLER}-01" if step == 7 else None
            assert stream.track(None, boxes(step), traceparent=context).status is Status.TRACKED
        spans = collector.wait_for(20)
        deadline = time.monotonic() + WAIT_S
        while daemon.metrics()['trackd_traces_total{outcome="exported"}'] < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (collector.paths, collector.services) == ({"/v1/traces"}, {"trackd"})
    frames = [span for span in spans if span.name == "frame"]
    seqs = [{item.key: item.value for item in span.attributes}["trackd.seq"].int_value for span in frames]
    assert seqs == list(range(20))
    for frame in frames:
        below = sorted(
            (span for span in spans if span.parent_span_id == frame.span_id), key=lambda span: span.start_time_unix_nano
        )
        assert sorted(span.name for span in below) == sorted(STAGES)
        assert below[0].start_time_unix_nano == frame.start_time_unix_nano
        assert max(span.end_time_unix_nano for span in below) == frame.end_time_unix_nano
        assert before_ns <= frame.start_time_unix_nano <= frame.end_time_unix_nano <= time.time_ns()
    assert (frames[7].trace_id.hex(), frames[7].parent_span_id.hex()) == (TRACE, CALLER)
    assert all(not frame.parent_span_id for number, frame in enumerate(frames) if number != 7)


def test_the_example_of_the_docs_and_the_async_client_continue_their_programs_trace(collector: Collector) -> None:
    page = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
    example: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(from opentelemetry.*?)^```", page, re.MULTILINE | re.DOTALL)[0], example)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("rig")
    contexts = []

    async def send(at: tuple[str, str, str]) -> None:
        client = AsyncClient(*at, timeout_s=WAIT_S)
        async with client, await client.open_stream("other", reply="tracks") as stream:
            await stream.track(None, boxes(0), traceparent=f"00-{TRACE}-{CALLER}-01")
            await stream.send(None, boxes(1), traceparent=f"00-{TRACE}-{CALLER}-01")

    with DaemonProcess(f"daemon.telemetry={collector.address}", "daemon.telemetry_share=1e-9") as daemon:
        at = (daemon.ingest, daemon.tracks, daemon.control)
        with Client(*at, timeout_s=WAIT_S) as client, client.open_stream("camera", reply="tracks") as stream:
            for step in range(3):
                with trace.use_span(tracer.start_span("grab"), end_on_exit=True) as span:
                    assert example["send"](stream, None, boxes(step)).status is Status.TRACKED
                    contexts.append(span.get_span_context())
            stream.track(None, boxes(3))  # without a context, and with this share: not exported
        asyncio.run(send(at))
        frames = [span for span in collector.wait_for(5) if span.name == "frame"]
    expected = [(f"{each.trace_id:032x}", f"{each.span_id:016x}") for each in contexts] + 2 * [(TRACE, CALLER)]
    assert [(frame.trace_id.hex(), frame.parent_span_id.hex()) for frame in frames] == expected


def test_frames_are_tracked_while_nobody_takes_the_spans_and_the_loss_is_counted() -> None:
    with Collector() as closed:
        address = closed.address  # nobody listens there from here on
    with DaemonProcess(f"daemon.telemetry={address}") as daemon:
        with (
            Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=WAIT_S) as client,
            client.open_stream("camera", reply="tracks") as stream,
        ):
            for step in range(10):
                assert stream.track(None, boxes(step)).status is Status.TRACKED
            deadline = time.monotonic() + WAIT_S
            while daemon.metrics()['trackd_traces_total{outcome="export_failed"}'] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        code, stderr = daemon.stop(timeout_s=60)
    assert code == 0, stderr
    assert stderr.count("does not take spans") == 1, stderr


def test_a_stop_does_not_wait_for_a_collector_that_never_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        DaemonProcess(f"daemon.telemetry=http://127.0.0.1:{silent.getsockname()[1]}") as daemon,
    ):
        with (
            Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=WAIT_S) as client,
            client.open_stream("camera", reply="tracks") as stream,
        ):
            for step in range(200):
                assert stream.track(None, boxes(step)).status is Status.TRACKED
        code, stderr = daemon.stop(timeout_s=60)
    assert code == 0, stderr
