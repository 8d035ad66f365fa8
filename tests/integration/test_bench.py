"""The parts that the benchmarks use: the measured load, the bare loop, the targets that are read back."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from daemon_process import DaemonProcess

from trackd.commands.bench import Load, made_detections, measure, rate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from bare_client import frame_bytes  # noqa: E402
from bare_loop import running_bare  # noqa: E402
from targets import Target, read_targets  # noqa: E402


@pytest.fixture(scope="module")
def addresses():
    with DaemonProcess() as daemon:
        yield {"ingest": daemon.ingest, "tracks": daemon.tracks, "control": daemon.control}


def test_every_frame_of_a_load_is_tracked_and_measured(addresses):
    measured = measure(Load(streams=2, fps=math.inf, seconds=0.5), addresses)
    assert [each.frames for each in measured] == [each.sent for each in measured]
    for each in measured:
        assert each.sent > 32, "more than one credit's worth"
        assert (each.dropped, len(each.latencies_s), len(each.stages_us)) == (0, each.sent, each.sent)
        assert each.seconds >= 0.5
    assert rate(measured) * max(each.seconds for each in measured) == pytest.approx(sum(each.sent for each in measured))


def test_a_latency_counts_from_when_the_frame_was_due(addresses):
    # A frame of this size at this rate must wait for the one before it, on any machine.
    (measured,) = measure(Load(fps=5000.0, width=4096, height=4096, seconds=0.5), addresses)
    assert measured.late > 0
    in_daemon_s = measured.stages_us[-1][-1] / 1e6
    assert measured.latencies_s[-1] > in_daemon_s + 0.2, "most of the half second must have passed before it was sent"


def test_a_closed_loop_has_a_round_trip_for_each_frame(addresses):
    (measured,) = measure(Load(fps=math.inf, seconds=0.3, closed_loop=True), addresses)
    assert len(measured.round_trips_s) == measured.sent == measured.frames > 0
    total_s = [stages[-1] / 1e6 for stages in measured.stages_us]
    assert all(trip > inside for trip, inside in zip(measured.round_trips_s, total_s, strict=True))


def test_boxes_never_jump():
    made = itertools.pairwise(itertools.islice(made_detections(10, 1280, 720), 1500))
    assert max(np.abs(after.boxes - before.boxes).max() for before, after in made) < 30


def test_the_bare_loop_tracks_every_frame_and_its_echo_is_received():
    with running_bare() as bare, running_bare("echo") as echoing:
        frames, held = bare.sustained(3, 0.3)
        assert frames > 3 * 32
        assert held > 0
        assert len(bare.closed_loop(0.3)) > 0
        assert len(echoing.echo(frame_bytes(), 0.3)) > 0


def test_the_bare_loop_ends_with_the_process_that_started_it():
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\nfrom bare_loop import running_bare\nimport os\n"
    code += "with running_bare('echo') as bound:\n    print(bound.ingest, flush=True)\n    os._exit(0)\n"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    # capture_output waits until all holders of the pipe have ended, the orphan included: `run` returning is the proof.
    assert started.stdout.startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize("met", [True, False, None])
def test_a_target_is_read_back_as_it_was_printed(met):
    target = Target("p99", "≤ 1 ms", "2 ms, 2× of it", met)
    assert read_targets(f"table\n{target}\nother | words") == [target]
