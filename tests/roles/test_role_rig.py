"""The role of a rig's user: the commands and programs of the docs run as printed, and their ids are scored."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from daemon_process import DaemonProcess

from trackd.evaluation import IdentityScoring
from trackd_client import Client, Tracks

ROOT = Path(__file__).parents[2]
STARTED = ROOT / "docs" / "getting-started.md"
LEAST_IDF1 = 0.9
NEAR_PX = 20.0  # half the side of the squares about the centres that are compared
COMMAND_S = 120.0
PAGES = [
    ROOT / "README.md",
    ROOT / "clients/python/README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("sdk", "protocol")),
]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Gives `Client()` and `AsyncClient()` other default addresses, so that the test needs no fixed port, and writes to
# stderr when an iterator has subscribed. The printed code itself is unchanged.
RUN = """
import functools, sys, trackd_client
ingest, tracks, control, code = sys.argv[1:]
class Client(trackd_client.Client):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**({} if args else dict(ingest=ingest, tracks=tracks, control=control)), **kwargs})
    def tracks(self, *args, **kwargs):
        iterator = super().tracks(*args, **kwargs)
        print("following", file=sys.stderr, flush=True)
        return iterator
class AsyncClient(trackd_client.AsyncClient):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**({} if args else dict(ingest=ingest, tracks=tracks, control=control)), **kwargs})
trackd_client.Client = Client
trackd_client.AsyncClient = AsyncClient
exec(compile(code, "example", "exec"), {"__name__": "__main__"})
"""


def programs(page: Path) -> list[str]:
    """Return the programs of a page that need one daemon; `test_fleet_members.py` runs those of a fleet."""
    return [code for code in CODE.findall(page.read_text(encoding="utf-8")) if "FleetClient" not in code]


def environment() -> dict[str, str]:
    """Numbered lines at once, although stdout is a pipe."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "150"}


def start(code: str, daemon: DaemonProcess) -> subprocess.Popen[str]:
    code = code.replace("tcp://127.0.0.1:5570", daemon.ingest)  # of the protocol's own client
    words = [sys.executable, "-c", RUN, daemon.ingest, daemon.tracks, daemon.control, code]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def start_follower(code: str, daemon: DaemonProcess) -> subprocess.Popen[str]:
    """Start a program that reads tracks, and wait until it has subscribed."""
    follower = start(code, daemon)
    assert follower.stderr is not None
    assert follower.stderr.readline() == "following\n"
    return follower


def output_of(process: subprocess.Popen[str]) -> list[str]:
    try:
        out, error = process.communicate(timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, error = process.communicate()
        pytest.fail(f"it did not end; it printed {out[-500:]!r} and {error[-500:]!r}")
    assert process.returncode == 0, error
    return out.splitlines()


def run(module: str, *arguments: str) -> str:
    """Run a command of the docs; returns its output."""
    words = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, env=environment(), check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def trackd(*arguments: str) -> str:
    return run("trackd.cli", *arguments)


def trackd_client(*arguments: str) -> str:
    return run("trackd_client.apps.cli", *arguments)


def ingest_and_others(daemon: DaemonProcess) -> list[str]:
    names = ("ingest", "tracks", "control")
    return [word for name in names for word in (f"--{name}", daemon.addresses[name])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of a user, after `make demo`."""
    before = Path.cwd()
    path = tmp_path_factory.mktemp("rig")
    os.chdir(path)
    try:
        (path / "demo.out").write_text(trackd("demo", "--out", "demo", "--speed", "max"))
        yield path
    finally:
        os.chdir(before)


class Follower(threading.Thread):
    """Receives all settlements of the stream `camera`."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(daemon=True)
        self.settled: list[Tracks] = []
        self._client = Client(daemon.ingest, daemon.tracks, daemon.control)
        self._iterator = self._client.tracks("camera", from_seq=0, until_closed=True)

    def run(self) -> None:
        with self._client:
            self.settled.extend(self._iterator)


def idf1(settled: list[Tracks], folder: Path) -> float:
    """Score settlements against the true places of the demo's fish, by the distance of their centres."""
    truth = np.load(folder / "demo" / "demo_truth.npz")
    by_frame = {tracks.frame_index: tracks for tracks in settled}

    def squares(boxes: np.ndarray) -> np.ndarray:
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        return np.hstack([centres - NEAR_PX, centres + NEAR_PX])

    scoring = IdentityScoring()
    for frame, (boxes, visible) in enumerate(zip(truth["boxes"], truth["visible"], strict=True)):
        tracks = by_frame.get(frame)
        ids, found = np.empty(0, np.int32), np.empty((0, 4))
        if tracks is not None and tracks.track_ids is not None and tracks.boxes is not None:
            ids, found = tracks.track_ids, tracks.boxes
        scoring.add_boxes(np.flatnonzero(visible), squares(boxes[visible]), ids, squares(found))
    return scoring.score().idf1


def table_value(text: str, column: str) -> float:
    """A number of the demo's row in a printed table."""
    rows = [re.split(r"\s*[│┃]\s*|\s{2,}", line.strip(" │┃")) for line in text.splitlines()]
    head = next(row for row in rows if column in row)
    return float(next(row for row in rows if row[0] == "demo" and len(row) == len(head))[head.index(column)])


def test_the_demo_prints_its_score_and_writes_the_files_that_it_lists(folder: Path) -> None:
    text = (folder / "demo.out").read_text()
    (idf1_of_the_demo,) = re.findall(r"IDF1 (\d\.\d+)", text)
    assert float(idf1_of_the_demo) >= LEAST_IDF1
    listed = re.findall(r"^  \S.*? {2,}(demo/\S+)$", STARTED.read_text(), re.MULTILINE)
    assert len(listed) >= 6
    assert [path for path in listed if not (folder / path).exists()] == []
    assert re.findall(r"^  \S.*? {2,}(demo/\S+)$", text, re.MULTILINE) == listed


def test_the_demo_writes_the_configuration_that_the_page_prints(folder: Path) -> None:
    (printed,) = re.findall(r"^```yaml\n(.*?)^```", STARTED.read_text(), re.MULTILINE | re.DOTALL)
    assert (folder / "demo/demo.yaml").read_text() == printed


def test_the_three_terminals_give_ids_and_files(folder: Path) -> None:
    with DaemonProcess("stream.outputs=[slp, mot]", "out_dir=results") as daemon:
        addresses = ingest_and_others(daemon)
        words = [sys.executable, "-m", "trackd_client.apps.cli", "replay", "demo/demo.yaml", *addresses]
        replay = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        deadline = time.monotonic() + 30
        while "demo" not in trackd("status", "--endpoint", daemon.control):
            assert time.monotonic() < deadline
        watched = trackd_client("watch", "demo", "--once", *addresses[2:])
        lines = output_of(replay)
        assert daemon.stop()[0] == 0
    assert "demo: frame" in watched
    assert watched.count("active") >= 3, watched
    assert len(lines) == 1
    assert re.fullmatch(r"demo: 600 frames in [\d.]+ s, [\d.]+ fps, \d+ late, 0 dropped, 0 rejected", lines[0])
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["demo.slp", "demo.txt"]


def test_track_and_eval_score_the_demo_and_name_their_files(folder: Path) -> None:
    text = trackd("track", "demo/demo.yaml", "--set", "out_dir=tracked")
    assert text.splitlines()[-2:] == ["wrote tracked/demo.slp", "wrote tracked/demo.txt"]
    assert table_value(text, "IDF1") >= LEAST_IDF1, text
    text = trackd("eval", "demo/demo.yaml", "--set", "out_dir=tracked", "--out", "scores")
    assert {path.name for path in (folder / "scores").iterdir()} == {"scores.json", "scores.csv", "demo.png"}
    assert table_value(text, "IDF1") >= LEAST_IDF1, text


def test_the_inference_file_of_the_clone_tracks_the_demo(folder: Path) -> None:
    shutil.copytree(ROOT / "configs", folder / "configs")
    text = trackd("track", "configs/inference.yaml", "--set", "out_dir=inferred")
    assert table_value(text, "IDF1") >= LEAST_IDF1, text


def test_the_camera_of_the_docs_gives_the_fish_their_ids(folder: Path) -> None:
    camera, reader, _ = programs(STARTED)
    with DaemonProcess() as daemon:
        printed = start_follower(reader, daemon)
        follower = Follower(daemon)
        follower.start()
        output_of(start(camera, daemon))
        lines = output_of(printed)
        follower.join(30)
    assert len(follower.settled) == 600
    assert idf1(follower.settled, folder) >= LEAST_IDF1
    assert len(lines) == 600
    ids = {int(word) for line in lines for word in re.findall(r"\d+", line.partition(" ")[2])}
    assert ids == set(range(5)), "the page says which ids are printed"


def test_the_closed_loop_of_the_docs_prints_track_0_at_each_step() -> None:
    with DaemonProcess() as daemon:
        lines = output_of(start(programs(STARTED)[2], daemon))
    assert len(lines) == 5
    assert all(line.startswith("track 0 is at [") for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_program_of_a_page_ends_without_an_error(page: Path) -> None:
    """Programs that read a stream start first, as the pages say; they end when the program that sends it has ended."""
    codes = programs(page)
    readers = [code for code in codes if "until_closed=True" in code]
    assert codes
    with DaemonProcess() as daemon:
        started = [start_follower(code, daemon) for code in readers]
        for code in codes:
            if code not in readers:
                output_of(start(code, daemon))
        for process in started:
            assert len(output_of(process)) >= 100
