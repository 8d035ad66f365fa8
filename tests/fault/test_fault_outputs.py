"""Output files on a full disk, or in a folder that is removed: only their own stream waits, with an error, and no
frame is lost."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
from daemon_process import wait_until
from disks import disk
from fault_tools import FaultDaemon, GoodClient, imbalances, sdk
from raw_client import RawClient, walking_boxes

from trackd.outputs.files.part import read_records
from trackd_client import Detections

N_BOXES = 40


def csv_frames(path: Path) -> list[int]:
    """The frame of each row."""
    return [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]


def reason(daemon: FaultDaemon) -> str | None:
    return json.loads(daemon.get("/readyz")[1])["reason"]


class Sender:
    """A stream of a raw client that sends as its credit allows, and repeats the frames that exceeded it."""

    def __init__(self, client: RawClient, stream: str, **config: object) -> None:
        self.client, self.stream = client, stream
        self.credit = client.open(stream, config=config)["credit"]
        self.next_seq = 0
        self.acked = -1
        self.paused = False
        self.errors: list[str] = []

    def send(self, until: int, for_s: float) -> None:
        """Send up to a seq and wait for its ack; stop when the time is over."""
        deadline = time.monotonic() + for_s
        while self.acked < until - 1 and time.monotonic() < deadline:
            while self.credit > 0 and self.next_seq < until and not self.paused:
                self.client.frame(self.stream, self.next_seq, walking_boxes(self.next_seq, N_BOXES))
                self.next_seq += 1
                self.credit -= 1
            while self.client.ingest.poll(10):
                self._receive(self.client.recv())

    def _receive(self, message: dict) -> None:
        if message["kind"] == "ack":
            self.acked = message["seq"]
            self.credit += message["credit"]
            self.paused = False
        elif message["kind"] == "error" and message["code"] == "no_credit" and message["seq"] < self.next_seq:
            self.credit += self.next_seq - message["seq"]
            self.next_seq = message["seq"]
            self.paused = True
        elif message["kind"] == "error" and message["code"] == "internal":
            self.errors.append(message["message"])


def test_on_a_full_disk_only_streams_with_outputs_wait_and_their_files_are_complete_afterwards(tmp_path):
    n = 700
    with (
        disk("tmpfs", tmp_path) as full,
        FaultDaemon(f"out_dir={full.folder / 'results'}") as daemon,
        GoodClient(daemon.addresses, pace_s=0.01) as witness,
        RawClient(daemon.addresses) as client,
        RawClient(daemon.addresses) as other_client,
    ):
        cam = Sender(client, "cam", outputs=["csv", "slp"])
        other = Sender(other_client, "other")
        table = full.folder / "results" / "cam.csv"
        cam.send(100, 20)
        assert cam.acked == 99
        full.fill(daemon.process.pid)
        frames = witness.frames
        cam.send(n, 5)  # until its credit ends
        assert 100 + 256 <= cam.acked < 100 + 256 + 100
        assert witness.frames > frames + 50
        other.send(50, 5)
        assert (other.acked, other.errors) == (49, [])
        assert str(full.folder / "results" / "cam.") in reason(daemon)
        assert "No space left on device" in reason(daemon)
        assert daemon.healthy()[0] == 200
        assert cam.errors
        assert cam.errors[0] == reason(daemon)
        rows = csv_frames(table)
        assert rows == [seq for seq in range(rows[-1] + 1) for _ in range(N_BOXES)]  # no frame is there in part
        full.free(daemon.process.pid)
        wait_until(lambda: reason(daemon) is None, 10)
        cam.send(n, 30)
        assert cam.acked == n - 1
        metrics = daemon.metrics()
        assert imbalances(metrics) == []
        assert metrics["trackd_output_errors_total"] == 0
        witness.stop()
        assert daemon.end() == 0
        assert csv_frames(table) == [seq for seq in range(n) for _ in range(N_BOXES)]
        assert sorted(path.name for path in table.parent.iterdir()) == ["cam.csv", "cam.slp"]


def test_a_stream_that_closes_on_a_full_disk_logs_its_lost_frames(tmp_path):
    with disk("tmpfs", tmp_path) as full, FaultDaemon(f"out_dir={full.folder}") as daemon, sdk(daemon) as client:
        stream = client.open_stream("cam", config={"outputs": ["mot"]})
        for seq in range(50):
            stream.send(None, Detections(boxes=walking_boxes(seq, 100)), frame_index=seq)
        stream.flush()
        wait_until(lambda: (full.folder / "cam.txt").read_text().count("\n") == 5000, 5)
        full.fill(daemon.process.pid)
        for seq in range(50, 100):
            stream.send(None, Detections(boxes=walking_boxes(seq, 100)), frame_index=seq)
        stream.close()
        wait_until(lambda: daemon.metrics()["trackd_output_errors_total"] > 0, 10)
        assert reason(daemon) is None  # no record waits
        assert daemon.end() == 0
        written = sorted({int(line.split(",")[0]) - 1 for line in (full.folder / "cam.txt").read_text().splitlines()})
        assert written == list(range(len(written)))
        assert 50 <= len(written) < 100
        (line,) = [line for line in daemon.log if "lost to it" in line]
        assert f"{100 - len(written)} frames are lost to it: frame_index={len(written)} to 99" in line


def test_an_out_dir_that_is_removed_loses_no_frame_but_label_images(tmp_path):
    whole, removed = tmp_path / "whole", tmp_path / "removed" / "results"
    for out_dir in (whole, removed):
        with FaultDaemon(f"out_dir={out_dir}") as daemon, sdk(daemon, timeout_s=20) as client:
            config = {"outputs": ["csv", "mot", "trackmate", "slp", "parquet", "ctc"]}
            with client.open_stream("cam", frame_shape=(200, 300), config=config, reply="tracks") as stream:
                for seq in range(60):
                    if out_dir == removed and seq == 30:
                        wait_until((removed / "cam_RES.part" / "mask029.tif").exists, 10)
                        time.sleep(0.1)
                        shutil.rmtree(removed.parent)
                    boxes = np.array([[0, 0, 20, 20], [50, 50, 80, 90], [100, 100, 130, 140]], np.float32) + seq
                    stream.track(None, Detections(boxes=boxes[: 1 + seq % 3]), t_ns=seq * 40_000_000)
                if out_dir == removed:
                    wait_until((removed / "cam.slp.part").exists, 10)
                    assert daemon.get("/readyz")[0] == 200
            assert daemon.end() == 0
            log = list(daemon.log)
    for folder in (whole, removed):
        assert sorted(path.name for path in folder.iterdir()) == [
            "cam.csv", "cam.parquet", "cam.slp", "cam.txt", "cam_RES", "cam_spots.csv"
        ]  # fmt: skip
    for name in ("cam.csv", "cam.txt", "cam_spots.csv"):
        assert (removed / name).read_text() == (whole / name).read_text()
    pd.testing.assert_frame_equal(pd.read_parquet(removed / "cam.parquet"), pd.read_parquet(whole / "cam.parquet"))
    assert sorted(path.name for path in (removed / "cam_RES").glob("mask*")) == [
        f"mask{number:03d}.tif" for number in range(30, 60)
    ]
    assert any("cam_RES.part was removed with the frames before frame_index=30" in line for line in log)


def test_the_part_of_a_file_that_could_not_be_finished_is_kept_and_recovered(tmp_path):
    with disk("tmpfs", tmp_path) as full:
        with FaultDaemon(f"out_dir={full.folder}") as daemon, sdk(daemon) as client:
            stream = client.open_stream("cam", config={"outputs": ["slp"]})
            for seq in range(300):
                stream.send(None, Detections(boxes=walking_boxes(seq)), frame_index=seq)
            stream.flush()
            part = full.folder / "cam.slp.part"
            wait_until(lambda: len(list(read_records(part))) == 300, 10)
            full.fill(daemon.process.pid)
            stream.close()
            wait_until(lambda: daemon.metrics()["trackd_output_errors_total"] == 1, 20)
            full.free(daemon.process.pid)
            assert [path.name for path in full.folder.iterdir()] == ["cam.slp.part"]
            again = client.open_stream("cam", config={"outputs": ["slp"]})  # which recovers the part first
            again.close()
            assert daemon.end() == 0
        assert any("could not be finished" in line and "outputs recover" in line for line in daemon.log), daemon.log
        assert sorted(path.name for path in full.folder.iterdir()) == ["cam.1.slp", "cam.slp"]
