"""Output files over kills: with a journal they are those of an uninterrupted run, in one file; without one, every acked
frame is in the file or in its part."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pandas as pd
import pytest
import sleap_io
import tifffile
import zarr
from cameras import detections
from daemon_process import DaemonProcess, fixed_ports, wait_until
from fault_tools import SOAK, rounds, within
from output_sender import Sender, csv_frames, mot_frames
from raw_client import RawClient

from trackd.outputs.files.part import read_records
from trackd_client import Client, Detections

KINDS = ["mot", "csv", "slp", "trackmate", "parquet", "ctc", "jsonl", "geff"]
NAMES = ["cam.csv", "cam.geff", "cam.jsonl", "cam.parquet", "cam.slp", "cam.txt", "cam_RES", "cam_spots.csv"]
if SOAK:  # one whole file more is like the others, and takes seconds to finish
    KINDS += ["coco", "dlc", "h5", "movement", "nwb"]
    NAMES = sorted([*NAMES, "cam.coco.json", "camDLC_trackd.csv", "cam.h5", "cam.nc", "cam.nwb"])
SHAPE = (48, 64)
# The counts of the labels lie under load; `rewrite` is at the first frame with instances. At the close, one daemon
# after the other dies while it finishes the files of the stream: first `slp`, then `parquet`, then `ctc`.
WRITING = ["after_output_open:1", "after_rewrite:1", "after_output:250", "before_position:3", "before_publish:60"]
CLOSING = ["before_finish:1", "during_finish:1", "after_finish:1", "after_finish:2"]
if SOAK:
    WRITING = ["before_position:1", "after_output_open:1", "before_rewrite:1", "after_rewrite:1", "after_output:250",
               "before_position:3", "after_position:4", "before_journal:60", "after_journal:60", "before_publish:60",
               "after_ack:60", *["after_output:250", "before_position:2", "after_journal:60"] * 2]  # fmt: skip
    CLOSING = ["before_finish:1", "during_finish:1", "during_finish:2", "after_finish:1", "during_finish:1",
               "after_finish:1", "before_position_removed:1"]  # fmt: skip


def frame_of(index: int) -> Detections:
    """A frame with everything that an output holds. The first 60 are empty, so that the nodes are not known."""
    boxes = detections(0, index).boxes / 11 if index >= 60 else np.empty((0, 4), np.float32)
    n = len(boxes)
    masks = np.zeros(SHAPE, np.uint16)
    for row, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        masks[y1 : y2 + 1, x1 : x2 + 1] = row + 1
    rng = np.random.default_rng(index)
    return Detections(
        boxes=boxes, keypoints=np.stack([boxes[:, :2], boxes[:, 2:]], axis=1), scores=rng.random(n, np.float32),
        keypoint_scores=rng.random((n, 2), np.float32), masks=masks,
    )  # fmt: skip


class Feed(threading.Thread):
    """A stream whose client sends from its first frame on, over all restarts of the daemon."""

    def __init__(self, at: dict[str, str], pace_s: float = 0.004) -> None:
        super().__init__(daemon=True)
        self.client = Client(at["ingest"], at["tracks"], at["control"], timeout_s=60)
        self.pace_s = pace_s
        self.sent = 0
        self.stopping = threading.Event()
        self.fault: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            stream = self.client.open_stream("cam", frame_shape=SHAPE, source="/lab/cam.mp4", config={"outputs": KINDS})
            while not self.stopping.wait(self.pace_s):
                self.sent = send(stream, self.sent)
            stream.close()
        except Exception as error:
            self.fault = error
        finally:
            self.client.close()

    def stop(self) -> int:
        """Close the stream; return the number of frames."""
        self.stopping.set()
        self.join(90)
        assert not self.is_alive()
        assert self.fault is None, self.fault
        return self.sent


def send(stream, index: int) -> int:
    stream.send(None, frame_of(index), frame_index=index, t_ns=index * 40_000_000)
    return index + 1


class Run:
    """A daemon with a journal that is killed and started again on the same ports."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.out_dir = folder / "results"
        self._overrides = [*fixed_ports(), "daemon.http=null", f"out_dir={self.out_dir}", *settings,
                           f"daemon.state_dir={folder / 'state'}"]  # fmt: skip
        named = (text.removeprefix("daemon.endpoints.") for text in self._overrides if "endpoints" in text)
        self.at = dict(text.split("=", 1) for text in named)
        self.daemon: DaemonProcess | None = None

    def start(self, crash_at: str = "") -> DaemonProcess:
        """Start a daemon; with a label it kills itself there, perhaps before its ready line."""
        env = {"TRACKD_CRASH_AT": crash_at}
        self.daemon = DaemonProcess(*self._overrides, env=env, may_be_killed=bool(crash_at))
        return self.daemon

    def wait_for_death(self, crash_at: str) -> None:
        assert self.daemon is not None
        _, stderr = self.daemon.process.communicate(timeout=40)
        assert self.daemon.process.returncode == -signal.SIGKILL, stderr
        assert f"killed at {crash_at.partition(':')[0]}\n" in stderr

    def kill(self) -> None:
        if self.daemon is not None and self.daemon.process.poll() is None:
            self.daemon.process.kill()
            self.daemon.process.communicate(timeout=10)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def slp_rows(path: Path) -> list[tuple]:
    """What an .slp holds, as values."""
    labels = sleap_io.load_slp(str(path), open_videos=False)
    return [(labels.video.filename, labels.video.shape)] + [
        (frame.frame_idx, found.numpy().tolist(), found.track and found.track.name, found.score, found.tracking_score)
        for frame in labels for found in frame
    ]  # fmt: skip


def geff_values(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a graph, by their path in it."""
    return {name: array[:] for name, array in zarr.open_group(path, mode="r").members(None) if hasattr(array, "dtype")}


def hdf5_values(path: Path) -> dict[str, np.ndarray]:
    """The numbers of an HDF5 file, by their path in it."""
    found = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def assert_same(out_dir: Path, uninterrupted: Path) -> None:
    """Every file is that of the uninterrupted run, and there is no other."""
    for folder in (out_dir, uninterrupted):
        assert sorted(path.name for path in folder.iterdir()) == NAMES
    texts = [name for name in NAMES if name.endswith((".csv", ".txt", ".jsonl", ".json"))]
    for name in (*texts, "cam_RES/res_track.txt"):
        assert (out_dir / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    pd.testing.assert_frame_equal(
        pd.read_parquet(out_dir / "cam.parquet"), pd.read_parquet(uninterrupted / "cam.parquet")
    )
    np.testing.assert_equal(slp_rows(out_dir / "cam.slp"), slp_rows(uninterrupted / "cam.slp"))
    np.testing.assert_equal(geff_values(out_dir / "cam.geff"), geff_values(uninterrupted / "cam.geff"))
    for name in (name for name in NAMES if name.endswith((".h5", ".nc", ".nwb"))):
        np.testing.assert_equal(hdf5_values(out_dir / name), hdf5_values(uninterrupted / name))
    images = sorted(path.name for path in (uninterrupted / "cam_RES").iterdir())
    assert sorted(path.name for path in (out_dir / "cam_RES").iterdir()) == images
    for name in images[:-1]:
        same = tifffile.imread(uninterrupted / "cam_RES" / name)
        np.testing.assert_array_equal(tifffile.imread(out_dir / "cam_RES" / name), same, err_msg=name)


def uninterrupted_run(folder: Path, n: int) -> Path:
    """The results of the same frames without a kill and without a journal."""
    with DaemonProcess("daemon.http=null", f"out_dir={folder}") as daemon:
        at = daemon.addresses
        with Client(at["ingest"], at["tracks"], at["control"], timeout_s=60) as client:
            stream = client.open_stream("cam", frame_shape=SHAPE, source="/lab/cam.mp4", config={"outputs": KINDS})
            for index in range(n):
                send(stream, index)
            stream.close()
        assert daemon.stop()[0] == 0
    return folder


@within(300, 1800)
def test_with_a_journal_the_files_after_kills_are_those_of_an_uninterrupted_run(tmp_path):
    rng = Random(13)
    # Little history, so that the journal would not have the frames if the outputs did not keep them.
    with Run(tmp_path, "stream.history_frames=0", "stream.queue_depth=64") as run:
        run.start(WRITING[0])
        feed = Feed(run.at)
        for label, successor in zip(WRITING, [*WRITING[1:], ""], strict=True):
            run.wait_for_death(label)
            run.start(successor)
        for _ in range(rounds(1, 12)):
            time.sleep(rng.uniform(0.1, 0.8))
            run.kill()
            run.start()
        time.sleep(0.3)
        assert run.daemon.stop()[0] == 0  # a drain leaves the files as they are, too
        run.start(CLOSING[0])
        time.sleep(0.3)
        n = feed.stop()
        for label, successor in zip(CLOSING, [*CLOSING[1:], ""], strict=True):
            run.wait_for_death(label)
            run.start(successor)
        with suppress(AssertionError):  # the message of the next check is of more use
            wait_until(lambda: not list(run.out_dir.glob("*.part")), 30)
        assert run.daemon.stop()[0] == 0
    assert_same(run.out_dir, uninterrupted_run(tmp_path / "uninterrupted", n))
    assert not list((tmp_path / "state" / "outputs").iterdir())


@within(200, 1200)
@pytest.mark.parametrize("kinds", [["mot"], ["slp", "csv"]])
def test_without_a_journal_every_acked_frame_is_in_the_file_or_its_part(tmp_path, kinds):
    rng = Random(14)
    for number in range(rounds(2, 30)):
        out_dir = tmp_path / str(number)
        with (
            DaemonProcess("daemon.http=null", f"out_dir={out_dir}", "stream.queue_depth=400") as daemon,
            RawClient(daemon.addresses) as client,
        ):
            cam = Sender(client, "cam", 80, outputs=kinds)
            cam.send(100_000, rng.uniform(0.8, 1.6))
            daemon.process.kill()
            daemon.process.wait(10)
            cam.receive(200)  # the acks that were on their way
        assert cam.acked > 0
        for kind in kinds:
            assert set(range(cam.acked + 1)) <= set(frames_in(out_dir, kind)), (kind, cam.acked)


def frames_in(out_dir: Path, kind: str) -> list[int]:
    if kind == "slp":
        return [record.frame_index for record in read_records(out_dir / "cam.slp.part")]
    return csv_frames(out_dir / "cam.csv") if kind == "csv" else mot_frames(out_dir / "cam.txt")
