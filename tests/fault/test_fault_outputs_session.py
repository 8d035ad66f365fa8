"""Output files over kills of a daemon without a journal: one session of a client is one file of each format."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import sleap_io
import tifffile
from daemon_process import DaemonProcess, fixed_ports, wait_until
from fault_tools import rounds, within
from output_sender import csv_frames, mot_frames
from raw_client import RawClient, walking_boxes

from trackd_client import Client, Detections, Stream

KINDS = ["mot", "csv", "slp", "trackmate", "parquet", "ctc"]
NAMES = ["cam.csv", "cam.parquet", "cam.slp", "cam.txt", "cam_RES", "cam_spots.csv"]
SHAPE = (480, 640)
N_ANIMALS = 3


class Run:
    """A daemon without a journal that is killed and started again on the same ports."""

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        self._overrides = [*fixed_ports(), "daemon.http=null", f"out_dir={out_dir}", "stream.queue_depth=64"]
        named = (text.removeprefix("daemon.endpoints.") for text in self._overrides if "endpoints" in text)
        self.at = dict(text.split("=", 1) for text in named)
        self.daemon: DaemonProcess | None = None

    def start(self, crash_at: str = "") -> None:
        self.daemon = DaemonProcess(*self._overrides, env={"TRACKD_CRASH_AT": crash_at}, may_be_killed=bool(crash_at))

    def kill(self) -> None:
        if self.daemon is not None and self.daemon.process.poll() is None:
            self.daemon.process.kill()
            self.daemon.process.communicate(timeout=10)

    def wait_for_death(self) -> None:
        assert self.daemon is not None
        _, stderr = self.daemon.process.communicate(timeout=90)
        assert self.daemon.process.returncode == -signal.SIGKILL, stderr

    def stop(self) -> str:
        """End the daemon in order; return its log."""
        assert self.daemon is not None
        code, stderr = self.daemon.stop()
        assert code == 0, stderr
        return stderr

    def client(self) -> Client:
        return Client(self.at["ingest"], self.at["tracks"], self.at["control"], timeout_s=60)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.out_dir.iterdir())

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Feed(threading.Thread):
    """One session of a client that sends over all restarts of the daemon, and what a second client sees of it."""

    def __init__(self, run: Run) -> None:
        super().__init__(daemon=True)
        self.sender, self.viewer = run.client(), run.client()
        self.sent = 0
        self.acked = 0
        self.ids: dict[int, set[int]] = {}  # by epoch
        self.stopping = threading.Event()
        self.fault: Exception | None = None
        self.stream: Stream | None = None
        self._view = threading.Thread(target=self._follow, daemon=True)
        self._view.start()
        self.start()

    def _follow(self) -> None:
        for tracks in self.viewer.tracks("cam"):
            self.ids.setdefault(tracks.epoch, set()).update(tracks.track_ids.tolist())

    def run(self) -> None:
        try:
            stream = self.sender.open_stream("cam", frame_shape=SHAPE, source="/lab/cam.mp4", config={"outputs": KINDS})
            self.stream = stream
            while not self.stopping.wait(0.004):
                # The first frames are empty, so that the nodes of the tables are not known at first.
                boxes = walking_boxes(self.sent, N_ANIMALS) if self.sent >= 5 else np.empty((0, 4), np.float32)
                stream.send(None, Detections(boxes=boxes), frame_index=self.sent, t_ns=self.sent * 40_000_000)
                self.sent += 1
                self.acked = self.sent - stream.unacked
            stream.close()
        except Exception as error:
            self.fault = error
        finally:
            self.sender.close()

    def wait_for(self, n_more: int) -> None:
        """Wait until so many more frames are acked."""
        until = self.acked + n_more
        wait_until(lambda: self.acked >= until or self.fault, 90)

    def wait_for_viewer(self) -> None:
        """Wait until the second client, which connects again in its own time, sees the epoch that is sent now."""
        wait_until(lambda: (self.stream and self.stream.epoch in self.ids) or self.fault, 90)

    def stop(self) -> int:
        """Close the stream; return the number of frames."""
        self.stopping.set()
        self.join(90)
        assert not self.is_alive()
        assert self.fault is None, self.fault
        self.viewer.close()
        self._view.join(10)
        return self.sent


def assert_each_frame_once(out_dir: Path, n: int) -> set[int]:
    """Every file holds the frames 0 to n − 1, each once, with the same ids; return the ids."""
    table = pd.read_csv(out_dir / "cam.csv")
    assert len(table) == 5 + (n - 5) * N_ANIMALS
    assert table.drop_duplicates(["frame_index", "detection"])["frame_index"].tolist() == table["frame_index"].tolist()
    assert sorted(set(table["frame_index"])) == list(range(n))
    assert (table["t_ns"] == table["frame_index"] * 40_000_000).all()
    same = pd.read_parquet(out_dir / "cam.parquet")
    pd.testing.assert_frame_equal(table, same[table.columns.tolist()], check_dtype=False)
    ids = table[table["track_id"] >= 0].groupby("frame_index")["track_id"].apply(sorted).to_dict()
    mot = [line.split(",") for line in (out_dir / "cam.txt").read_text().splitlines()]
    assert [(int(row[0]) - 1, int(row[1]) - 1) for row in mot] == [
        (frame, number) for frame, number in zip(table["frame_index"], table["track_id"], strict=True) if number >= 0
    ]
    spots = pd.read_csv(out_dir / "cam_spots.csv", skiprows=[1, 2, 3])
    assert spots["ID"].tolist() == list(range(len(spots)))
    assert spots.groupby("FRAME")["TRACK_ID"].apply(lambda found: sorted(map(int, found))).to_dict() == ids
    np.testing.assert_allclose(spots["POSITION_T"], spots["FRAME"] * 0.04)
    labels = sleap_io.load_slp(str(out_dir / "cam.slp"), open_videos=False)
    found = [(frame.frame_idx, sorted(int(each.track.name) for each in frame)) for frame in labels]
    assert found == sorted(ids.items())
    images = sorted((out_dir / "cam_RES").glob("mask*.tif"))
    assert [int(path.stem.removeprefix("mask")) for path in images] == list(range(n))
    for path in images[:: max(1, n // 50)]:
        assert set(np.unique(tifffile.imread(path))) - {0} == {
            number + 1 for number in ids.get(int(path.stem.removeprefix("mask")), [])
        }
    assert not (out_dir / "cam_RES" / "tracks.part").exists()
    return {number for numbers in ids.values() for number in numbers}


@within(300, 1800)
def test_after_three_kills_one_session_is_one_file_of_each_format_with_each_frame_once(tmp_path):
    rng = Random(15)
    with Run(tmp_path / "results") as run:
        run.start("after_output:250")  # one of the files has the last frame, another lacks it
        feed = Feed(run)
        run.wait_for_death()
        run.start("before_ack:40")  # all files have the last frames, and no client knows
        run.wait_for_death()
        for _ in range(rounds(1, 20)):
            run.start()
            feed.wait_for(30)
            feed.wait_for_viewer()
            time.sleep(rng.uniform(0, 0.3))
            run.kill()
        run.start()
        feed.wait_for(30)
        feed.wait_for_viewer()
        n = feed.stop()
        log = run.stop()
    assert run.names() == NAMES
    assert "its outputs continue the files of a daemon that was killed" in log
    ids = assert_each_frame_once(run.out_dir, n)
    epochs = [found - {-1} for found in feed.ids.values()]
    unseen = 3 + rounds(1, 20) - len(epochs)
    assert 0 <= unseen <= 2  # the two that die at a set frame, which may be before the viewer has connected again
    assert sum(map(len, epochs)) == len(set.union(*epochs))  # no id means two animals
    assert len(ids - set.union(*epochs)) <= unseen * N_ANIMALS


class RawSession:
    """A stream of a raw client, which continues with a lower seq than index after a kill."""

    def __init__(self, run: Run, name: str, token: str | None = None) -> None:
        self._run, self._name = run, name
        self._fields = {"config": {"outputs": ["slp", "mot"]}, **({} if token is None else {"session": token})}

    def send(self, first: int, last: int, *, close: bool = False) -> dict:
        """Open the stream, and send frames until all are acked; return `opened`."""
        with RawClient(self._run.at) as client:
            opened = client.open(self._name, **self._fields)
            assert opened["kind"] == "opened", opened
            for seq, index in enumerate(range(first, last)):
                boxes = walking_boxes(index)
                client.frame(self._name, seq, boxes, frame_index=index, t_ns=index * 40_000_000)
                while client.recv_kind("ack")["seq"] < seq:
                    pass
            if close:
                client.send({"kind": "close", "stream": self._name})
                client.recv_kind("closed")
        return opened


def send_by_sdk(stream: Stream, first: int, last: int) -> None:
    for index in range(first, last):
        stream.send(None, Detections(boxes=walking_boxes(index)), frame_index=index)
    stream.flush()


@within(90, 90)
def test_after_a_kill_only_the_session_that_goes_on_continues_its_files(tmp_path):
    with Run(tmp_path / "results") as run:
        run.start()
        same, without = RawSession(run, "same", "one session"), RawSession(run, "without")
        assert "first_track_id" not in same.send(0, 10)
        without.send(0, 10)
        with run.client() as client:
            send_by_sdk(client.open_stream("other", config={"outputs": ["csv", "slp"]}), 0, 10)
            run.kill()
        assert [name for name in run.names() if name.startswith(".")] == [".other.session", ".same.session"]
        run.start()
        first_id = same.send(8, 20, close=True)["first_track_id"]  # it lacks the acks of two frames
        assert "first_track_id" not in without.send(8, 20, close=True)
        with run.client() as client, client.open_stream("other", config={"outputs": ["csv", "slp"]}) as stream:
            send_by_sdk(stream, 10, 20)
        run.stop()
    assert run.names() == [
        "other.1.csv", "other.1.slp", "other.csv", "other.slp", "same.slp", "same.txt",
        "without.1.slp", "without.1.txt", "without.slp", "without.txt",
    ]  # fmt: skip
    once = [index for index in range(20) for _ in range(N_ANIMALS)]
    assert mot_frames(run.out_dir / "same.txt") == once
    ids = [int(line.split(",")[1]) - 1 for line in (run.out_dir / "same.txt").read_text().splitlines()]
    assert max(ids[: 8 * N_ANIMALS]) < first_id == min(ids[8 * N_ANIMALS :])
    assert mot_frames(run.out_dir / "without.1.txt") == once[: 10 * N_ANIMALS]
    assert mot_frames(run.out_dir / "without.txt") == once[8 * N_ANIMALS :]
    assert csv_frames(run.out_dir / "other.1.csv") == once[: 10 * N_ANIMALS]
    assert csv_frames(run.out_dir / "other.csv") == once[10 * N_ANIMALS :]
