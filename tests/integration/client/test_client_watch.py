"""`trackd-client watch` beside a real daemon: what it shows does not depend on when it was started."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from daemon_process import DaemonProcess, wait_until

from trackd_client import Client, Detections
from trackd_client.apps.watch import Watcher

FRAMES = 250
SEEN_FRAMES = 130  # of the second track, which is lost then


def detections(index: int) -> Detections:
    boxes = np.array([[10, 20, 50, 60], [200, 20, 240, 60]], np.float32)
    return Detections(boxes=boxes if index < SEEN_FRAMES else boxes[:1])


@pytest.mark.parametrize("history_frames", [4096, 20])
def test_the_age_of_a_track_counts_from_its_first_frame(history_frames):
    with (
        DaemonProcess(f"stream.history_frames={history_frames}") as daemon,
        Client(daemon.ingest, daemon.tracks, daemon.control) as client,
        client.open_stream("cam") as stream,
    ):
        for index in range(FRAMES):
            stream.send(None, detections(index), frame_index=index + 1000)
        stream.flush()
        words = ["watch", "cam", "--once", "--tracks", daemon.tracks, "--control", daemon.control]
        ended = subprocess.run(
            [sys.executable, "-m", "trackd_client.apps.cli", *words], capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in ended.stdout.splitlines()]
        rows = {row[0]: row for row in cells if len(row) == 7 and row[0].isdigit()}
        assert [row[5] for row in rows.values()] == [str(FRAMES)] * 2
        assert (rows["0"][1], rows["1"][1]) == ("active", f"lost for {FRAMES - SEEN_FRAMES}")

        watcher = Watcher(client)
        watcher.follow_new()
        wait_until(lambda: len(watcher.tables["cam"].rows()) == 2, 10, "the live tracks")
        stream.send(None, detections(FRAMES), frame_index=1000 + FRAMES)
        wait_until(lambda: watcher.tables["cam"].frames == 1, 10, "the next frame")
        assert [(row.first_index, row.last_index, row.lost) for row in watcher.tables["cam"].rows()] == [
            (1000, 1000 + FRAMES, False), (1000, 1000 + SEEN_FRAMES - 1, True),
        ]  # fmt: skip
