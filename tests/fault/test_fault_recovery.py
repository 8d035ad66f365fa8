"""After a kill and a restart the daemon continues with the same ids, and no frame is lost or repeated."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from daemon_process import DaemonProcess, fixed_ports
from fault_tools import SOAK, long_form
from raw_client import RawClient, array

from trackd.commands.bench import walk
from trackd_client import Client, Detections, Status, Tracks

N_FRAMES = 400
N_KILLS = 4


def frames(seed: int, n: int = N_FRAMES) -> list[np.ndarray]:
    """Return the boxes of `n` frames, which wander and are missing at random."""
    generator = np.random.default_rng(seed)
    walker = walk(8, 1280, 720, seed)
    return [next(walker)[generator.random(8) > 0.1] for _ in range(n)]


def uninterrupted(seed: int) -> list[list[int]]:
    with DaemonProcess("daemon.http=null") as daemon, RawClient(daemon.addresses) as client:
        client.open("cam", reply="tracks")
        ids = []
        for seq, boxes in enumerate(frames(seed)):
            client.frame("cam", seq, boxes)
            client.ingest.rcvtimeo = 5000
            while True:
                parts = client.ingest.recv_multipart()
                header = msgpack.unpackb(parts[0])
                if header["kind"] == "tracks":
                    break
            ids.append(array(header, parts[1:], "track_ids").tolist())
        return ids


class Feeder(threading.Thread):
    """A camera that sends a stream through the SDK, also over restarts of the daemon."""

    def __init__(self, at: dict[str, str], name: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.at, self.stream, self.seed = at, name, seed
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.at["ingest"], self.at["tracks"], self.at["control"], timeout_s=60) as client:
                stream = client.open_stream(self.stream)
                for index, boxes in enumerate(frames(self.seed)):
                    stream.send(None, Detections(boxes=boxes), frame_index=index, t_ns=index)
                    time.sleep(0.001)
                stream.flush()
        except BaseException as error:
            self.failure = error


def history_of(at: dict[str, str], stream: str) -> list[Tracks]:
    with Client(at["ingest"], at["tracks"], at["control"], timeout_s=30) as client:
        rows: list[Tracks] = []
        while page := client.history(stream, from_seq=len(rows)):
            rows += page
        return rows


@pytest.fixture(scope="module")
def expected() -> dict[int, list[list[int]]]:
    return {seed: uninterrupted(seed) for seed in (range(4) if SOAK else [1])}


def check(at: dict[str, str], expected: dict[int, list[list[int]]], seeds: range) -> None:
    for seed in seeds:
        rows = history_of(at, f"cam{seed}")
        assert [row.seq for row in rows] == list(range(N_FRAMES))
        assert {row.status for row in rows} == {Status.TRACKED}
        assert len({row.epoch for row in rows}) == 1
        assert [row.track_ids.tolist() for row in rows] == expected[seed]


@long_form  # test_fault_kill_matrix.py compares what subscribers read after kills in the short form too
def test_history_is_complete_after_several_kills_under_load(tmp_path, expected):
    fixed = [*fixed_ports(), f"daemon.state_dir={tmp_path}", "daemon.http=null"]
    rng = random.Random(N_KILLS)
    daemon = DaemonProcess(*fixed)
    feeders = [Feeder(daemon.addresses, f"cam{seed}", seed) for seed in range(4)]
    for feeder in feeders:
        feeder.start()
    for _ in range(N_KILLS):
        time.sleep(rng.uniform(0.1, 0.5))
        os.kill(daemon.process.pid, signal.SIGKILL)
        daemon.process.communicate(timeout=10)
        daemon = DaemonProcess(*fixed)
    for feeder in feeders:
        feeder.join(90)
        assert not feeder.is_alive()
        assert feeder.failure is None
    check(daemon.addresses, expected, range(4))
    code, stderr = daemon.stop()
    assert (code, stderr) == (0, "")


def test_after_a_drain_the_next_daemon_continues_with_the_same_ids(tmp_path, expected):
    fixed = [*fixed_ports(), f"daemon.state_dir={tmp_path}", "daemon.http=null"]
    daemon = DaemonProcess(*fixed)
    feeder = Feeder(daemon.addresses, "cam1", 1)
    feeder.start()
    time.sleep(0.4)
    assert daemon.stop()[0] == 0
    with DaemonProcess(*fixed) as daemon:
        feeder.join(60)
        assert feeder.failure is None
        rows = history_of(daemon.addresses, "cam1")
        assert [row.track_ids.tolist() for row in rows] == expected[1]


def assert_refuses(state_dir: Path, *words: str) -> None:
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    overrides = [*free, "daemon.http=null", f"daemon.state_dir={state_dir}"]
    arguments = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "trackd.cli", "serve", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    for word in words:
        assert word in line


def test_a_damaged_journal_ends_the_start_with_one_line_and_is_never_replaced_silently(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"SQLite format 3\0" + os.urandom(8000))
    assert_refuses(tmp_path, "journal.sqlite", "Move it away")


def test_a_journal_of_another_version_ends_the_start_with_one_line(tmp_path):
    database = sqlite3.connect(tmp_path / "journal.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    assert_refuses(tmp_path, "version 99", "Move it away")
