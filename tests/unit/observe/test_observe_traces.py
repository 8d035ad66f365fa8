"""A frame's way as spans: its stages in order, the client's context, the share, what is lost, the configuration."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, Counter

from trackd.config import DaemonConfig, check_config
from trackd.observe.frame_times import FrameTimes
from trackd.observe.spans import FrameSpans
from trackd.observe.traces import MOST_TOGETHER, MOST_WAITING, SpanExport, Traces, open_traces
from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections
from trackd_client.protocol import FrameHead, Status

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settlement(seq: int = 0, status: Status = Status.TRACKED, reason: str | None = None, context: str | None = None):
    """Return what `Traces.put` reads of a settlement, with the times 1000, 2000, … ns."""
    step = 1000 if status is Status.TRACKED else 0
    return SimpleNamespace(
        head=FrameHead("camera", seq, 10 + seq, 0, context), epoch=7, status=status, reason=reason,
        detections=Detections.empty() if status is Status.TRACKED else None,
        received_ns=1000, taken_ns=2000, encoded_ns=2000 + step, scored_ns=2000 + 2 * step,
        associated_ns=2000 + 3 * step,
    )  # fmt: skip


def counter() -> Counter:
    return Counter("traces", "of a test", ["outcome"], registry=CollectorRegistry())


def count(of: Counter, outcome: str) -> float:
    return of.labels(outcome=outcome)._value.get()


def exported(*settled: Any, share: float = 1.0, stored_ns: int | None = None) -> list[ReadableSpan]:
    memory = InMemorySpanExporter()
    traces = Traces(FrameSpans(memory, share), counter(), clock=lambda: 9000)
    for each in settled:
        traces.put(each, stored_ns)
    traces.export_waiting()
    return list(memory.get_finished_spans())


def test_the_stages_of_a_tracked_frame_follow_each_other_from_its_receipt_to_its_publication() -> None:
    *stages, frame = exported(settlement(3), stored_ns=6000)
    assert [span.name for span in stages] == ["queue", "encode", "score", "assign", "journal", "publish"]
    assert all(before.end_time == after.start_time for before, after in pairwise(stages))
    assert (frame.name, frame.start_time, frame.end_time) == ("frame", stages[0].start_time, stages[-1].end_time)
    assert frame.end_time - frame.start_time == 8000
    assert {span.parent.span_id for span in stages} == {frame.context.span_id}
    assert dict(frame.attributes) == {
        "trackd.stream": "camera", "trackd.epoch": 7, "trackd.seq": 3, "trackd.frame_index": 13,
        "trackd.status": "tracked", "trackd.instances": 0,
    }  # fmt: skip
    assert frame.resource.attributes["service.name"] == "trackd"


def test_without_a_journal_a_frame_is_not_stored() -> None:
    assert [span.name for span in exported(settlement())] == ["queue", "encode", "score", "assign", "publish", "frame"]


def test_a_dropped_frame_has_no_step_and_a_rejected_one_is_an_error() -> None:
    *stages, dropped = exported(settlement(0, Status.DROPPED, "deadline"))
    assert [span.name for span in stages] == ["queue", "publish"]
    assert dropped.attributes["trackd.reason"] == "deadline"
    assert dropped.status.status_code is StatusCode.UNSET
    *_, rejected = exported(settlement(0, Status.REJECTED, "boxes must be [n, 4]"))
    assert (rejected.status.status_code, rejected.status.description) == (StatusCode.ERROR, "boxes must be [n, 4]")


def test_the_frame_continues_the_trace_of_its_client() -> None:
    *stages, frame = exported(settlement(context=CONTEXT))
    assert f"{frame.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{frame.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {span.context.trace_id for span in stages} == {frame.context.trace_id}


@pytest.mark.parametrize("context", ["", "00-0-0-01", CONTEXT.replace("0af", "zzz"), "ff" + CONTEXT[2:], None])
def test_a_context_that_is_not_valid_counts_as_none(context: str | None) -> None:
    *_, frame = exported(settlement(context=context))
    assert frame.parent is None


def test_the_share_applies_to_frames_without_a_context_and_a_sampled_flag_to_the_others() -> None:
    frames = [span for span in exported(*map(settlement, range(400)), share=0.5) if span.name == "frame"]
    assert 120 < len(frames) < 280
    assert len(exported(*(settlement(seq, context=CONTEXT) for seq in range(20)), share=1e-9)) == 20 * 6
    assert exported(settlement(context=CONTEXT[:-1] + "0")) == []


class Failing(SpanExport):
    """An export that fails while `fails` is set; each call gets its frames."""

    def __init__(self) -> None:
        self.fails: BaseException | bool = True
        self.calls: list[int] = []

    def export(self, frames: Any) -> bool:
        self.calls.append(len(frames))
        if isinstance(self.fails, BaseException):
            raise self.fails
        return not self.fails

    def close(self) -> None:
        self.calls.append(-1)


def test_what_the_collector_does_not_take_is_counted_and_the_next_frames_are_tried(caplog) -> None:
    export, counts = Failing(), counter()
    traces = Traces(export, counts)
    for fails in (True, OSError("gone"), False, False):
        export.fails = fails
        traces.put(settlement(), None)
        traces.export_waiting()
    assert (count(counts, "export_failed"), count(counts, "exported")) == (2, 2)
    assert [record.message.partition(" of ")[0] for record in caplog.records] == ["the collector"] * 2
    assert [" again" in record.message for record in caplog.records] == [False, True]


def test_a_full_queue_loses_the_newest_frames_and_counts_them() -> None:
    export, counts = Failing(), counter()
    export.fails = False
    traces = Traces(export, counts)
    for seq in range(MOST_WAITING + 5):
        traces.put(settlement(seq), None)
    traces.export_waiting()
    assert (count(counts, "queue_full"), count(counts, "exported")) == (5, MOST_WAITING)
    assert max(export.calls) == MOST_TOGETHER
    traces.put(settlement(), None)
    traces.export_waiting()
    assert (count(counts, "queue_full"), count(counts, "exported")) == (5, MOST_WAITING + 1)


def test_a_stop_tries_a_collector_that_fails_only_once() -> None:
    export, counts = Failing(), counter()
    traces = Traces(export, counts)
    for seq in range(3 * MOST_TOGETHER):
        traces.put(settlement(seq), None)
    traces.stop()
    traces.run()
    assert export.calls == [MOST_TOGETHER, -1]
    assert count(counts, "export_failed") == 3 * MOST_TOGETHER


def test_a_stop_gives_up_what_a_slow_collector_does_not_take_in_time() -> None:
    now = [0]

    class Slow(Failing):
        def export(self, frames: Any) -> bool:
            now[0] += 1_500_000_000
            return super().export(frames)

    export, counts = Slow(), counter()
    export.fails = False
    traces = Traces(export, counts, clock=lambda: now[0])
    for seq in range(5 * MOST_TOGETHER):
        traces.put(settlement(seq), None)
    traces.stop()
    traces.run()
    assert export.calls == [MOST_TOGETHER, MOST_TOGETHER, -1]
    assert (count(counts, "exported"), count(counts, "export_failed")) == (2 * MOST_TOGETHER, 3 * MOST_TOGETHER)


def test_the_times_of_a_frame_hold_no_image_and_no_arrays() -> None:
    traces = Traces(Failing(), counter())
    traces.put(settlement(), None)
    (waiting,) = traces._waiting
    values = [getattr(waiting, name) for name in FrameTimes.__slots__]
    assert all(value is None or isinstance(value, int | str) for value in values)


def test_telemetry_is_off_by_default() -> None:
    assert open_traces(DaemonConfig(), counter()) is None


@pytest.mark.parametrize("value", ["127.0.0.1:4318", "http://", "grpc://host:4317", "http://host:4318/?a=b", "", 4318])
def test_an_address_that_is_no_collector_is_refused_with_what_would_be_right(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.telemetry"):
        check_config({"daemon": {"telemetry": value}})


@pytest.mark.parametrize("share", [0, -1, 1.5, "half"])
def test_a_share_is_above_0_and_at_most_1(share: Any) -> None:
    with pytest.raises(ConfigError, match=r"daemon\.telemetry_share"):
        check_config({"daemon": {"telemetry_share": share}})


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackd.observe.spans", None)
    with pytest.raises(ConfigError, match=r"^daemon\.telemetry needs OpenTelemetry.*pip install 'trackd\[otel\]'$"):
        open_traces(DaemonConfig(telemetry="http://127.0.0.1:4318"), counter())
