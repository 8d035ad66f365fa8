"""`trackd-client` against a scripted daemon: replay and watch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fake_daemon import TWO

from trackd_client.apps.replay import MAX_SPEED, Progressed, ReplayOptions, replay_recording
from trackd_client.apps.watch import Watcher, one_frame
from trackd_client.detections import Skeleton
from trackd_client.protocol import Frame, Open
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording


class Made(Recording):
    """A recording without files that begins at frame 10."""

    source = Path("/data/fly.mp4")
    fps = 50.0
    skeleton = Skeleton(("nose",))
    frame_shape = (20, 30)

    def __init__(self, name: str = "fly", n: int = 5) -> None:
        self.name = name
        self._n = n

    @property
    def clips(self) -> Sequence[Clip]:
        return (Clip(10, 10 + self._n),)

    def frames(self, clips: Sequence[Clip] | None = None) -> Iterator[RecordedFrame]:
        for clip in clips or self.clips:
            for index in range(clip.start, clip.stop):
                yield RecordedFrame(index, self.time_ns(index) + 7, None, TWO)


def test_a_recording_is_replayed_unchanged(daemon, client):
    progress: list[Progressed] = []
    replayed = replay_recording(
        client, Made(), "fly", {"tracker": {"max_gap": 3}}, ReplayOptions(speed=MAX_SPEED, loops=2), progress.append
    )
    opened = next(message for message in daemon.received if isinstance(message, Open))
    assert (opened.frame_shape, opened.skeleton, opened.source) == ((20, 30), Skeleton(("nose",)), "/data/fly.mp4")
    assert opened.config == {"tracker": {"max_gap": 3}}
    frames = [message for message in daemon.received if isinstance(message, Frame)]
    assert [frame.frame_index for frame in frames] == list(range(10, 20))
    assert frames[0].t_ns == 200_000_007
    assert (replayed.progress.sent, replayed.progress.total, replayed.rejected) == (10, 10, 0)
    assert [step.sent for step in progress] == list(range(1, 11))


def test_one_frame_shows_the_last_state_also_without_new_frames(client):
    with client.open_stream("cam", reply="tracks") as stream:
        for _ in range(3):
            stream.track(None, TWO)
        table = one_frame(client, "cam", 0.1)
        assert [(row.id, row.speed) for row in table.rows()] == [(0, 0.0), (1, 0.0)]


def test_a_watcher_follows_all_open_streams(client):
    with client.open_stream("cam", reply="tracks"):
        watcher = Watcher(client)
        assert watcher.render() == "no stream is open"
        watcher.follow_new()
        assert list(watcher.tables) == ["cam"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trackd_client.apps.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_watch_once_prints_a_table_and_exits_0(daemon, client):
    with client.open_stream("cam", reply="tracks") as stream:
        stream.track(None, TWO)
        endpoints = daemon.endpoints
        ended = run("watch", "cam", "--once", "--tracks", endpoints["tracks"], "--control", endpoints["control"])
    assert ended.returncode == 0, ended.stderr
    assert "cam: frame 0" in ended.stdout
    assert "active" in ended.stdout
