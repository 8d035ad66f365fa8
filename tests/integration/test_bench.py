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

import run as bench_run  # noqa: E402
from bare_client import frame_bytes  # noqa: E402
from bare_loop import running_bare  # noqa: E402
from figures import Figure, load, read_figures, save, slower  # noqa: E402
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


def test_a_figure_is_read_back_as_it_was_printed():
    made = Figure.of("closed loop p50", [0.30, 0.33, 0.27], "ms")
    assert (made.value, made.spread) == (0.30, pytest.approx(0.1))
    made = Figure.of("rate", [9.0, 10.0, 11.0], "frames/s", more_is_better=True)
    assert read_figures(f"text\n{made}\nfigure | no\n") == [made]
    assert Figure.of("alone", [2.0]).spread == 0
    assert Figure.of("nothing", [0.0, 0.0]).spread == 0


def test_only_what_is_worse_by_more_than_the_noise_of_both_runs_is_slower():
    before = [
        Figure("steady", 1.0, "ms", 0.05), Figure("noisy", 1.0, "ms", 0.3), Figure("better", 1.0, "ms", 0.0),
        Figure("rate", 100.0, "/s", 0.02, True), Figure("much", 1.0, "ms", 0.0), Figure("gone", 1.0, "ms", 0.0),
    ]  # fmt: skip
    now = [
        Figure("steady", 1.2, "ms", 0.05), Figure("noisy", 1.2, "ms", 0.0), Figure("better", 0.5, "ms", 0.0),
        Figure("rate", 80.0, "/s", 0.02, True), Figure("much", 3.0, "ms", 0.0), Figure("new", 9.0, "ms", 0.0),
        Figure("zero", 0.0, "ms", 0.0),
    ]  # fmt: skip
    changes = slower(before, now)
    assert [change.what for change in changes] == ["much", "rate", "steady"]
    assert [round(change.worse, 3) for change in changes] == [2.0, 0.25, 0.2]
    assert changes[1].row() == "| rate | 100 | 80 /s | +25.0% | ±4.0% |"


def test_figures_are_compared_with_the_last_run_on_the_same_machine_only(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    assert load(path) == ("", [])
    first, second = Figure("a", 1.0, "ms", 0.0), Figure("b", 2.0, "ms", 0.0)
    save(path, "2026-11-28", [first, second])
    save(path, "2026-11-29", [Figure("b", 3.0, "ms", 0.0)])  # a run of some parts
    assert load(path) == ("2026-11-29", [first, Figure("b", 3.0, "ms", 0.0)])
    monkeypatch.setattr("figures.machine", lambda: "another one")
    assert load(path) == ("", [])
    path.write_text("{")
    assert load(path) == ("", [])


def test_a_second_run_says_what_became_slower(tmp_path, monkeypatch, capsys):
    part = tmp_path / "part.py"
    monkeypatch.setattr(bench_run, "LAST", tmp_path / "figures.json")
    monkeypatch.setattr(bench_run, "PARTS", (bench_run.Part("A part", f"python {part}"),))
    out = tmp_path / "RESULTS.md"
    texts = []
    for value in (1.0, 1.02, 1.5):
        figure = Figure.of("its time", [value, 0.97 * value, 1.03 * value], "ms")
        part.write_text(f"print('kept line'); print({str(figure)!r})")
        monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(out)])
        assert bench_run.main() == 0
        texts.append(out.read_text())
    assert "There is no earlier run on this machine" in texts[0]
    assert "nothing became slower" in texts[1]
    assert "| its time | 1.02 | 1.5 ms | +47.1% | ±6.0% |" in texts[2]
    assert "kept line" in texts[2]
    assert "figure | its time" not in texts[2]
    assert "+47.1%" in capsys.readouterr().out
