"""Output files on a full disk, or in a folder that is removed: only their own stream waits, with an error, and no
frame is lost."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from daemon_process import wait_until
from disks import disk
from fault_tools import FaultDaemon, GoodClient, imbalances, sdk
from output_sender import N_BOXES, Sender, csv_frames
from raw_client import RawClient, walking_boxes
from witness import Witness, most_p99_ms

from trackd.outputs.files.part import read_records
from trackd_client import Detections


def reason(daemon: FaultDaemon) -> str | None:
    return json.loads(daemon.get("/readyz")[1])["reason"]


@pytest.mark.parametrize("journal", [False, True])
def test_on_a_full_disk_only_streams_with_outputs_wait_and_their_files_are_complete_afterwards(tmp_path, journal):
    n = 700
    settings = [f"daemon.state_dir={tmp_path / 'state'}"] * journal
    with (
        disk("tmpfs", tmp_path) as full,
        FaultDaemon(f"out_dir={full.folder / 'results'}", *settings) as daemon,
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
        if journal:
            assert 100 + 256 <= cam.acked < 100 + 256 + 100
        else:  # what is acked is in the files
            in_part = [record.frame_index for record in read_records(table.with_name("cam.slp.part"))]
            assert 99 <= cam.acked <= min(csv_frames(table)[-1], in_part[-1])
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
        client.send({"kind": "close", "stream": "cam"})
        client.recv_kind("closed")
        assert daemon.end() == 0
        assert csv_frames(table) == [seq for seq in range(n) for _ in range(N_BOXES)]
        assert sorted(path.name for path in table.parent.iterdir()) == ["cam.csv", "cam.slp"]


@pytest.mark.parametrize("journal", [False, True])
def test_a_stream_that_closes_on_a_full_disk_logs_its_lost_frames(tmp_path, journal):
    settings = [f"daemon.state_dir={tmp_path / 'state'}"] * journal
    with (
        disk("tmpfs", tmp_path) as full,
        FaultDaemon(f"out_dir={full.folder}", "stream.queue_depth=64", *settings) as daemon,
        RawClient(daemon.addresses) as client,
    ):
        cam = Sender(client, "cam", 100, outputs=["mot"])
        cam.send(50, 10)
        wait_until(lambda: (full.folder / "cam.txt").read_text().count("\n") == 5000, 5)
        full.fill(daemon.process.pid)
        cam.send(100, 2)
        client.send({"kind": "close", "stream": "cam"})
        assert client.recv_kind("closed")["last_seq"] == 99
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


def test_an_output_that_is_named_twice_is_refused_in_open_and_in_configure(tmp_path):
    with FaultDaemon(f"out_dir={tmp_path}") as daemon, RawClient(daemon.addresses) as client:
        handles = daemon.ps.num_fds()
        with Witness(daemon.addresses) as witness:
            for number in range(13):
                for outputs in (["mot", "mot"], ["mot"] * 250):
                    reply = client.open(f"cam{number}", config={"outputs": outputs})
                    assert (reply["kind"], reply["code"]) == ("error", "bad_config")
                    assert "stream.outputs should name each format at most once; got ['mot', 'mot'" in reply["message"]
                reply = client.open(f"cam{number}", config={"outputs": ["mot"] * 9000})
                assert (reply["kind"], reply["code"]) == ("error", "bad_message")  # longer than any list of a header
            assert client.open("cam", config={"outputs": ["mot"]})["kind"] == "opened"
            reply = client.request("stream.configure", stream="cam", config={"outputs": ["mot", "mot"]})
            assert reply["error"]["code"] == "bad_config"
            assert "should name each format at most once" in reply["error"]["message"]
            assert daemon.ps.num_fds() < handles + 20
        assert witness.p99_ms <= most_p99_ms()
        cam = Sender(client, "other", outputs=["mot", "csv"])
        cam.send(400, 20)
        assert cam.acked == 399
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.txt", "other.csv", "other.txt"]


def test_the_open_output_files_of_all_streams_are_bounded(tmp_path):
    with FaultDaemon(f"out_dir={tmp_path}", "limits.output_files=5") as daemon, RawClient(daemon.addresses) as client:
        for number in range(4):  # at once: the daemon has not opened the first ones when it decides on the last one
            config = {"outputs": ["mot", "slp"]} if number < 3 else {}
            client.send({"kind": "open", "stream": f"cam{number}", "config": config})
        replies = [client.recv_kind("opened", "error") for _ in range(4)]
        (refusal,) = [reply for reply in replies if reply["kind"] == "error"]
        assert (refusal["stream"], refusal["code"]) == ("cam2", "too_large")
        assert refusal["message"] == (
            "at most 5 output files may be open over all streams; 4 are, and outputs asks for 2; close a stream, or "
            "ask for fewer"
        )
        client.send({"kind": "close", "stream": "cam0"})
        client.recv_kind("closed")
        wait_until((tmp_path / "cam0.slp").exists, 20)
        wait_until(lambda: client.open("cam2", config={"outputs": ["mot", "slp"]})["kind"] == "opened", 5)


def test_a_stream_with_large_images_does_not_hold_up_the_acks_of_another_stream_with_outputs(tmp_path):
    n_images = 300
    with (
        FaultDaemon(f"out_dir={tmp_path}") as daemon,
        RawClient(daemon.addresses) as large_client,
        RawClient(daemon.addresses) as small_client,
    ):
        config = {"outputs": ["ctc"], "queue_depth": n_images}
        large_client.open("large", frame_shape=[1500, 1500], config=config)
        small = Sender(small_client, "small", 3, outputs=["mot", "csv"])
        with Witness(daemon.addresses) as witness:
            for seq in range(n_images):
                large_client.frame("large", seq, walking_boxes(seq))
            large_client.recv_kind("ack")
            small.send(160, 60)  # five times its credit: it waits for about five images
            assert small.acked == 159
            assert len(list((tmp_path / "large_RES.part").glob("mask*"))) < n_images // 2
        assert witness.p99_ms <= most_p99_ms()
        daemon.process.kill()
