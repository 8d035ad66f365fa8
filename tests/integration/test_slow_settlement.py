"""At the end of a recording the daemon has a queue of frames, which may take longer than any single request."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
from test_track_path import mot_file

from trackd.commands.daemon_process import running_daemon
from trackd.commands.track import track_recording
from trackd_client import Client
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.motchallenge import MotRecording
from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame

TIMEOUT_S = 2.0  # of a request
STOPPED_S = 5.0


class StopsTheDaemon(DerivedRecording):
    """After its last frame, the daemon does not run for a while."""

    def __init__(self, recording: MotRecording, pid: int) -> None:
        super().__init__(recording)
        self._pid = pid

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        yield from self._recording.frames(clips)
        os.kill(self._pid, signal.SIGSTOP)
        threading.Timer(STOPPED_S, os.kill, (self._pid, signal.SIGCONT)).start()


def test_the_end_of_a_recording_waits_longer_than_a_request_for_frames_that_are_not_settled(tmp_path: Path):
    recording = MotRecording(mot_file(tmp_path / "walk.txt"), TestDataset())
    known = {child.pid for child in psutil.Process().children()}
    with running_daemon(["daemon.http=null"]) as at:
        (pid,) = {child.pid for child in psutil.Process().children()} - known
        with Client(at["ingest"], at["tracks"], at["control"], timeout_s=TIMEOUT_S) as client:
            summary = track_recording(client, StopsTheDaemon(recording, pid), {}, lambda done, seconds: None)
    assert (summary.frames, summary.rejected, summary.dropped) == (40, 0, 0)
