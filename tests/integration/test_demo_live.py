"""The end of the demo: its recording as a live stream, for the daemon's page."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from daemon_process import fixed_ports, wait_until

from trackd.commands.demo.recording import make_recording
from trackd_client import Client, Status
from trackd_client.errors import TrackdError

PLAYS = """
import sys
from pathlib import Path
from rich.console import Console
from trackd.commands.demo.loop import play_live
from trackd.commands.live import Addresses
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.sleap import SleapRecording
recording = SleapRecording(Path(sys.argv[1]), TestDataset())
play_live(recording, {"max_tracks": 3}, Console(), Addresses(*sys.argv[2:]))
"""


def test_a_recording_is_played_again_and_again_until_a_signal_with_the_present_as_its_times(tmp_path):
    files = make_recording(tmp_path, seed=1, n_frames=20, n_animals=3, size=(320, 240))
    ports = [word.partition("=")[2] for word in fixed_ports()]
    http = f"http://127.0.0.1:{fixed_ports()[0].rpartition(':')[2]}"
    began_ns = time.time_ns()
    words = [sys.executable, "-c", PLAYS, str(files.slp), *ports, http]
    player = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert player.stdout is not None
        lines = [player.stdout.readline(), player.stdout.readline()]
        assert lines == ["\n", f"watch it live at {http}/   (Ctrl-C ends it)\n"]
        with urllib.request.urlopen(f"{http}/healthz", timeout=30) as answer:
            assert answer.status == 200
        with Client(*ports, timeout_s=30) as client:
            wait_until(lambda: client.live_position("demo")[1] >= 50, 60, "more frames than the recording has")
            tracks = client.history("demo", from_seq=0, limit=50)
        player.send_signal(signal.SIGINT)
        _, stderr = player.communicate(timeout=60)
    finally:
        player.terminate()
        player.communicate(timeout=60)
    assert (player.returncode, stderr) == (0, "")
    assert [each.frame_index for each in tracks] == list(range(50))
    assert all(each.status is Status.TRACKED for each in tracks)
    assert all(began_ns < each.t_ns < time.time_ns() for each in tracks)
    with Client(*ports, timeout_s=0.5) as client, pytest.raises(TrackdError):
        client.status()  # its daemon has ended with it
