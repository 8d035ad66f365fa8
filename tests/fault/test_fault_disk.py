"""A journal that cannot be written: unstored frames are not acked, the fault is reported, all streams recover."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from daemon_process import DaemonProcess, fixed_ports, wait_until
from disks import Disk, Quota, disk, has_strace, immutable, syncs_counted
from fault_tools import SOAK, FaultDaemon, drain_replies, imbalances, long_form, rounds, sdk
from raw_client import RawClient, array

from trackd.commands.bench import walk
from trackd.store.database import Database
from trackd_client import Client, Detections

MB = 1024 * 1024
DEPTH = 32


def frames(n: int, seed: int = 0) -> list[np.ndarray]:
    """Return the boxes of `n` frames, which wander and are missing at random."""
    generator = np.random.default_rng(seed)
    walker = walk(8, 1280, 720, seed)
    return [next(walker)[generator.random(8) > 0.1] for _ in range(n)]


BOXES = frames(200)


@pytest.fixture(scope="module")
def undisturbed() -> list[list[int]]:
    """The ids of `BOXES` from a daemon without a fault."""
    with FaultDaemon() as daemon, sdk(daemon) as client, client.open_stream("cam", reply="tracks") as stream:
        return [stream.track(None, Detections(boxes=boxes)).track_ids.tolist() for boxes in BOXES]


def reason(daemon: DaemonProcess, path: str = "/readyz") -> str | None:
    """Return why the daemon is not ready; None if it is."""
    status, body = daemon.get(path)
    assert (status == 200) == json.loads(body)["ok"]
    return json.loads(body)["reason"]


def stored_seqs(journal: Path, stream: str = "cam") -> list[int]:
    """Return the stored seqs of a stream, from the journal of a daemon that writes nothing at the moment.

    It opens a copy, since the daemon locks the journal.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in ("journal.sqlite-wal", "journal.sqlite"):
            shutil.copy(journal.with_name(name), folder)
        outside = sqlite3.connect(Path(folder) / "journal.sqlite")
        try:
            return [r[0] for r in outside.execute("SELECT seq FROM frames WHERE stream = ? ORDER BY seq", (stream,))]
        finally:
            outside.close()


def acked(replies: list[dict]) -> int:
    return max((reply["seq"] for reply in replies if reply["kind"] == "ack"), default=-1)


def send(client: RawClient, first: int, last: int) -> None:
    for seq in range(first, last):
        client.frame("cam", seq, BOXES[seq])


def published(client: RawClient, n: int) -> list[tuple[int, list[int]]]:
    """Return the subscriber's next `n` settlements as (seq, ids)."""
    settlements = []
    while len(settlements) < n:
        header, parts = client.next_tracks()
        settlements.append((header["seq"], array(header, parts, "track_ids").tolist()))
    return settlements


@pytest.mark.parametrize("kind", ["tmpfs", "quota", "immutable"])
def test_on_a_full_disk_no_frame_is_acked_before_it_is_stored_and_all_streams_continue_once_there_is_room(
    tmp_path, undisturbed, kind
):
    with disk(kind, tmp_path) as full:
        journal = full.folder / "journal.sqlite"
        fixed = [f"daemon.state_dir={full.folder}"]
        with FaultDaemon(*fixed) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
            client.open("cam", config={"queue_depth": DEPTH})
            for first in range(0, 96, DEPTH):
                send(client, first, first + DEPTH)
                while acked([client.recv_kind("ack")]) < first + DEPTH - 1:
                    pass
            full.fill(daemon.process.pid)
            send(client, 96, 96 + DEPTH)
            wait_until(lambda: reason(daemon) is not None, 10, "/readyz reports the full disk")
            assert str(journal) in reason(daemon)
            assert "cannot be written" in reason(daemon)
            error = client.recv_kind("error")
            assert (error["code"], error["stream"]) == ("internal", "cam")
            assert str(journal) in error["message"]
            time.sleep(0.7)  # the daemon retries
            assert reason(daemon, "/healthz") is None
            replies = drain_replies(client)
            assert acked(replies) <= max(stored_seqs(journal))
            assert acked(replies) < 96 + DEPTH - 1
            assert imbalances(daemon.metrics()) == []
            full.free(daemon.process.pid)
            last = 96 + DEPTH
            while acked([client.recv_kind("ack")]) < last - 1:
                pass
            assert reason(daemon) is None
            assert stored_seqs(journal) == list(range(last))
            assert published(client, last) == list(enumerate(undisturbed[:last]))
            assert client.tracks.poll(200) == 0 or not client.recv_tracks()[0].startswith(b"tracks/")
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait(10)
        if kind != "tmpfs" and not SOAK:
            return
        with FaultDaemon(*fixed) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
            opened = client.open("cam", takeover=True)
            assert (opened["kind"], opened["next_seq"]) == ("opened", last)
            send(client, last, last + 30)
            assert published(client, 30) == list(enumerate(undisturbed))[last : last + 30]


class Camera(threading.Thread):
    """Sends BOXES through the SDK, also over restarts of the daemon, and keeps the ids."""

    def __init__(self, at: dict[str, str], n: int) -> None:
        super().__init__(daemon=True)
        self.at, self.n = at, n
        self.ids: list[list[int]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.at["ingest"], self.at["tracks"], self.at["control"], timeout_s=60) as client:
                stream = client.open_stream("cam")
                for boxes in BOXES[: self.n]:
                    stream.send(None, Detections(boxes=boxes))
                    time.sleep(0.005)
                stream.flush()
                while page := client.history("cam", from_seq=len(self.ids)):
                    self.ids += [row.track_ids.tolist() for row in page]
        except BaseException as error:
            self.failure = error


def camera_on_a_full_disk(full: Disk, daemon: FaultDaemon, n_frames: int) -> Camera:
    """Start a camera, fill the disk under load, and wait until the daemon reports it."""
    camera = Camera(daemon.addresses, n_frames)
    camera.start()
    time.sleep(0.3)
    full.fill(daemon.process.pid)
    wait_until(lambda: reason(daemon) is not None, 10)
    return camera


def test_a_daemon_killed_on_a_full_disk_continues_with_the_same_ids_once_there_is_room(tmp_path, undisturbed):
    with disk("tmpfs", tmp_path) as full:
        fixed = [*fixed_ports(), f"daemon.state_dir={full.folder}"]
        with FaultDaemon(*fixed) as daemon:
            camera = camera_on_a_full_disk(full, daemon, 200)
            time.sleep(1.2)
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait(10)
        assert camera.is_alive()
        full.free(0)
        with FaultDaemon(*fixed):
            camera.join(60)
            assert not camera.is_alive()
    assert camera.failure is None
    assert camera.ids == undisturbed


def test_a_client_that_opens_a_stream_on_a_full_disk_waits_and_gets_the_reason(tmp_path):
    with (
        disk("tmpfs", tmp_path) as full,
        FaultDaemon(f"daemon.state_dir={full.folder}") as daemon,
        sdk(daemon) as client,
    ):
        client.open_stream("first").close()
        full.fill(daemon.process.pid)
        freed = threading.Timer(3.0, full.free, [0])
        with sdk(daemon, timeout_s=2.5) as hasty, pytest.raises(Exception, match=r"internal: .*cannot be written"):
            hasty.open_stream("hasty")
        freed.start()
        stream = sdk_stream(client)
        freed.join()
        stream.send(None, Detections(boxes=BOXES[0]))
        stream.flush()


def sdk_stream(client: Client):
    """Open a stream, with retries for up to 20 s."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return client.open_stream("patient")
        except TimeoutError:
            assert time.monotonic() < deadline


@long_form
def test_a_drain_on_a_full_disk_ends_with_the_reason_and_the_next_daemon_continues(tmp_path, undisturbed):
    with disk("tmpfs", tmp_path) as full:
        fixed = [*fixed_ports(), f"daemon.state_dir={full.folder}", "daemon.drain_s=1.5"]
        with FaultDaemon(*fixed) as daemon:
            camera = camera_on_a_full_disk(full, daemon, 120)
            assert daemon.end() == 1
        assert any("had not drained" in line and "journal.sqlite cannot be written" in line for line in daemon.log)
        full.free(0)
        with FaultDaemon(*fixed):
            camera.join(60)
    assert camera.failure is None
    assert camera.ids == undisturbed[:120]


def test_streams_that_drop_frames_use_little_memory_while_nothing_can_be_stored(tmp_path):
    """No credit limits them. The tracked frames that are not stored are bounded in bytes; then the engine waits."""
    state = tmp_path / "state"
    with (
        FaultDaemon(f"daemon.state_dir={state}", "daemon.stall_s=2") as daemon,
        RawClient(daemon.addresses) as client,
    ):
        client.open("cam", config={"on_overload": "drop_newest", "queue_depth": 4})
        quota = Quota(state)
        quota.fill(daemon.process.pid)
        masks = np.zeros((2000, 2000), "<u2")
        before = daemon.rss_mb
        for seq in range(90):  # 720 MB
            client.send(
                {
                    "kind": "frame", "stream": "cam", "seq": seq, "frame_index": seq, "t_ns": seq, "image": None,
                    "detections": {
                        "boxes": {"dtype": "<f4", "shape": [0, 4], "part": 1},
                        "masks": {"labels": {"dtype": "<u2", "shape": [2000, 2000], "part": 2}},
                    },
                },
                np.zeros((0, 4), "<f4"), masks,
            )  # fmt: skip
            time.sleep(0.01)
        received = 'trackd_frames_received_total{stream="cam"}'
        wait_until(lambda: daemon.metrics()[received] == 90, 30)
        time.sleep(2.5)  # longer than stall_s: a restart would not help
        assert daemon.rss_mb - before < 500
        metrics = daemon.metrics()
        assert 20 < metrics['trackd_frames_tracked_total{stream="cam"}'] < 45
        assert imbalances(metrics) == []
        assert reason(daemon, "/healthz") is None
        assert "cannot be written" in reason(daemon)
        quota.free(daemon.process.pid)
        wait_until(lambda: reason(daemon) is None, 10)
        while client.recv_kind("ack")["seq"] < 89:
            pass
        assert daemon.metrics()['trackd_frames_dropped_total{reason="overload",stream="cam"}'] > 40


def serve_refused(*overrides: str) -> str:
    """Return the one line of a daemon that refuses to start."""
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    words = [word for override in [*free, "daemon.http=null", *overrides] for word in ("--set", override)]
    result = subprocess.run(
        [sys.executable, "-m", "trackd.cli", "serve", *words], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize("how", ["an immutable journal", "a full disk"])
def test_a_state_dir_that_cannot_be_written_is_one_clear_line_at_start(tmp_path, how):
    state = tmp_path / "disk"
    if how == "a full disk":
        with disk("tmpfs", tmp_path) as full:
            full.fill(0)
            line = serve_refused(f"daemon.state_dir={state}")
    else:
        Database(state / "journal.sqlite", False, MB, 1).close()
        with immutable(state / "journal.sqlite"):
            line = serve_refused(f"daemon.state_dir={state}")
    assert f"daemon.state_dir: {state / 'journal.sqlite'} cannot be written" in line


def test_a_state_dir_that_is_removed_while_the_daemon_runs_costs_no_identity(tmp_path, undisturbed):
    state = tmp_path / "state"
    fixed = [*fixed_ports(), f"daemon.state_dir={state}"]
    with FaultDaemon(*fixed) as daemon:
        camera = Camera(daemon.addresses, 200)
        camera.start()
        time.sleep(0.3)
        shutil.rmtree(state)
        wait_until((state / "journal.sqlite").exists, 20)
        time.sleep(0.2)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(10)
    assert any("was taken away while it was in use" in line for line in daemon.log)
    with FaultDaemon(*fixed):
        camera.join(60)
    assert camera.failure is None
    assert camera.ids == undisturbed


def test_the_journal_stays_within_journal_bytes_and_a_restart_continues_from_it(tmp_path):
    bound = 8 * MB
    fixed = [f"daemon.state_dir={tmp_path}", f"daemon.journal_bytes={bound}", "daemon.http=null"]
    generator = np.random.default_rng(0)
    n = rounds(1100, 20_000)
    boxes = frames(n, 3)
    largest = 0
    with FaultDaemon(*fixed) as daemon, sdk(daemon, timeout_s=20) as client:
        stream = client.open_stream("cam")
        for i in range(n):  # 12 kB a frame: 13 MB; a restart needs the last 500 frames of them, 6 MB
            keypoints = generator.random((len(boxes[i]), 200, 2), np.float32)
            stream.send(None, Detections(boxes=boxes[i], keypoints=keypoints))
            if i % 20 == 0:
                largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
        stream.flush()
        before = client.history("cam", from_seq=n - 20)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(10)
    assert 0.8 * bound < largest < 1.1 * bound + 5 * MB, largest  # and the write-ahead log's 4 MB
    with FaultDaemon(*fixed) as daemon, sdk(daemon) as client:
        after = client.history("cam", from_seq=n - 20)
        assert [row.seq for row in after] == list(range(n - 20, n))
        assert [row.track_ids.tolist() for row in after] == [row.track_ids.tolist() for row in before]
        assert client.open_stream("cam").next_seq == n
        first = client.history("cam", limit=1)[0].seq
        assert 0 < first <= n - 500
    print(f"journal_bytes={bound}: the folder had at most {largest} bytes; history started at seq {first} of {n}")


def test_streams_that_open_and_close_leave_the_journal_flat(tmp_path):
    n = rounds(80, 2000)
    sizes = []
    with FaultDaemon(f"daemon.state_dir={tmp_path}", "daemon.http=null") as daemon, sdk(daemon) as client:
        for number in range(n):
            with client.open_stream(f"cam{number % 40}") as stream:
                for boxes in BOXES[:12]:
                    stream.send(None, Detections(boxes=boxes))
            if number % (n // 8) == n // 8 - 1:
                sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        assert not any(stored_seqs(tmp_path / "journal.sqlite", f"cam{number}") for number in range(40))
    assert sizes[-1] < 5 * MB  # the write-ahead log, which restarts at 4 MB, and a few pages
    assert (tmp_path / "journal.sqlite").stat().st_size < 100_000


@pytest.mark.skipif(not has_strace(), reason="strace is missing or cannot attach to a process")
@pytest.mark.parametrize("durability", ["process", "power"])
def test_durability_power_syncs_each_group_before_its_acks_and_process_never_syncs(tmp_path, durability):
    log = tmp_path / "strace.log"
    fixed = [f"daemon.state_dir={tmp_path / 'state'}", f"daemon.durability={durability}", "daemon.http=null"]
    n_closed, n_burst = 30, 400
    with FaultDaemon(*fixed) as daemon, sdk(daemon) as client:
        closed = client.open_stream("closed", reply="tracks")
        burst = client.open_stream("burst", config={"queue_depth": 400})
        with syncs_counted(daemon.process.pid, log):
            for boxes in BOXES[:n_closed]:
                closed.track(None, Detections(boxes=boxes))
        in_loop = log.read_text().count("sync(")
        with syncs_counted(daemon.process.pid, log):
            for boxes in (BOXES * 2)[:n_burst]:
                burst.send(None, Detections(boxes=boxes))
            burst.flush()
        in_burst = log.read_text().count("sync(")
    print(f"{durability}: {in_loop} syncs for {n_closed} frames one by one, {in_burst} for {n_burst} in a burst")
    if durability == "process":
        assert (in_loop, in_burst) == (0, 0)
    else:
        assert in_loop >= n_closed  # each ack waits for its own sync
        assert 1 <= in_burst < n_burst / 2
