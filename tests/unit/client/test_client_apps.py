"""`trackd-client`: replay and watch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from trackd_client.apps import cli
from trackd_client.apps.events import EventRows, as_text
from trackd_client.apps.replay import (
    MAX_SPEED,
    Pace,
    looped,
    parse_speed,
    read_replay,
    stream_names,
)
from trackd_client.apps.watch import LiveTable
from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections, Skeleton
from trackd_client.protocol import Status, Timing, Tracks
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording
from trackd_client.replies import LiveTrack, LiveTracks, read_live_tracks


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
                yield RecordedFrame(index, self.time_ns(index) + 7, None, Detections.empty())


class Clock:
    """A clock that advances only by `sleep` or an assignment to `now`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


# --- replay ---


def test_frames_are_due_by_their_number_so_that_delays_do_not_add_up():
    clock = Clock()
    pace = Pace(10.0, 1.0, clock, clock.sleep)
    for number in range(100):
        pace.wait(number)
        assert clock.now == pytest.approx(100.0 + number / 10)
        clock.now += 0.03
    assert pace.late == 0


def test_late_frames_are_counted_and_not_waited_for():
    clock = Clock()
    pace = Pace(10.0, 2.0, clock, clock.sleep)
    pace.wait(0)
    clock.now += 0.2
    pace.wait(1)
    assert (pace.late, pace.lag_s) == (1, pytest.approx(0.15))
    pace.wait(10)
    assert (pace.late, pace.lag_s) == (1, 0.0)
    assert clock.now == pytest.approx(100.5)


def test_at_maximum_speed_no_frame_is_late():
    clock = Clock()
    pace = Pace(10.0, MAX_SPEED, clock, clock.sleep)
    for number in range(5):
        pace.wait(number)
        clock.now += 10
    assert (pace.late, pace.lag_s) == (0, 0.0)


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", ""])
def test_an_invalid_speed_is_refused(text):
    with pytest.raises(ConfigError, match="--speed must be a number above 0, or max"):
        parse_speed(text)


def test_frame_numbers_rise_over_loops():
    frames = list(looped(Made(n=3), 3))
    assert [frame.frame_index for frame in frames] == list(range(10, 19))
    assert np.diff([frame.t_ns for frame in frames]).tolist() == [20_000_000] * 8


def test_stream_names_are_valid_and_distinct():
    made = [Made("a b/c"), Made("a b c"), Made("a-b-c"), Made("é"), Made("x" * 200)]
    assert stream_names(made) == ["a-b-c", "a-b-c-2", "a-b-c-3", "-", "x" * 128]
    assert stream_names(made[:1], "mine") == ["mine"]
    with pytest.raises(ConfigError, match="--stream names one stream"):
        stream_names(made[:2], "mine")


def test_all_tracker_keys_and_the_given_dataset_keys_are_sent_to_the_daemon(tmp_path):
    (tmp_path / "a.slp").touch()
    (tmp_path / "a.mp4").touch()
    path = tmp_path / "config.yaml"
    path.write_text(
        "ckpt_path: x.ckpt\ntrainer: {a: 1}\ntracker: {max_gap: 7, odd_key: 1}\n"
        "dataset: {test_dataset: {slp_files: [a.slp], video_files: [a.mp4], crop_size: 64, anchors: nose}}\n"
    )
    replay = read_replay(path, ["tracker.max_gap=9", "dataset.test_dataset.padding=2"])
    assert replay.config == {
        "tracker": {"max_gap": 9, "odd_key": 1},
        "dataset": {"crop_size": 64, "anchors": "nose", "padding": 2},
    }
    assert [recording.name for recording in replay.recordings] == ["a"]


# --- watch ---


def tracked(index: int, ids: list[int], x: float = 0.0, **lists: tuple[int, ...]) -> Tracks:
    n = len(ids)
    boxes = np.array([[x + 10 * i, 0, x + 10 * i + 4, 8] for i in range(n)], "<f4").reshape(n, 4)
    return Tracks(
        "cam", 1, index, index, index, Status.TRACKED, track_ids=np.array(ids, "<i4"),
        track_scores=np.full(n, 0.5, "<f4"), boxes=boxes, timing=Timing(total=1500), **lists,
    )  # fmt: skip


def test_a_track_has_a_centre_a_speed_and_an_age():
    table = LiveTable("cam")
    table.update(tracked(10, [3]))
    assert math.isnan(table.rows()[0].speed)
    table.update(tracked(14, [3], x=8.0))
    (row,) = table.rows()
    assert (row.centre, row.speed, row.first_index, row.score) == ((10.0, 4.0), 2.0, 10, 0.5)


def test_lost_tracks_stay_until_they_end():
    table = LiveTable("cam")
    table.update(tracked(0, [1, 2]))
    table.update(tracked(1, [1], lost_tracks=(2,)))
    assert [(row.id, row.lost) for row in table.rows()] == [(1, False), (2, True)]
    table.update(tracked(2, [1, 2], found_tracks=(2,)))
    assert [(row.id, row.lost) for row in table.rows()] == [(1, False), (2, False)]
    table.update(tracked(3, [1], ended_tracks=(2,)))
    assert [row.id for row in table.rows()] == [1]


def text_of(table: LiveTable) -> str:
    """The printed table, its title as one line."""
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table.render())
    return " ".join(console.export_text().split())


def live(epoch: int, *tracks: LiveTrack) -> LiveTracks:
    return LiveTracks("cam", epoch, 9, tracks)


def test_a_table_shows_the_names_of_tracks():
    table = LiveTable("cam")
    box = (0.0, 0.0, 4.0, 8.0)
    table.complete(live(1, LiveTrack(1, "active", box, 9, 3), LiveTrack(2, "lost", box, 5, 0, "[Bob]")))
    table.update(tracked(10, [1, 3], names=("Ann", None)))
    assert [(row.id, row.name) for row in table.rows()] == [(1, "Ann"), (2, "[Bob]"), (3, None)]
    assert "1 Ann" in text_of(table)
    assert "2 [Bob]" in text_of(table)
    table.update(tracked(11, [1]))
    assert table.rows()[0].name is None


def test_the_live_tracks_complete_a_table_that_began_later():
    table = LiveTable("cam")
    table.update(tracked(8, [1]))
    table.update(tracked(9, [1], x=2.0))
    box = (0.0, 0.0, 4.0, 8.0)
    table.complete(live(1, LiveTrack(1, "active", box, 9, 3), LiveTrack(2, "lost", box, 5, 0)))
    seen, found = table.rows()
    assert (seen.id, seen.first_index, seen.speed, seen.lost) == (1, 3, 2.0, False)
    assert (found.id, found.first_index, found.last_index, found.centre, found.lost) == (2, 0, 5, (2.0, 4.0), True)
    table.update(tracked(10, [1, 2], found_tracks=(2,)))
    assert [(row.first_index, row.lost) for row in table.rows()] == [(3, False), (0, False)]


def test_the_live_tracks_of_another_epoch_are_not_kept():
    table = LiveTable("cam")
    table.complete(live(1, LiveTrack(1, "active", (0.0, 0.0, 4.0, 8.0), 9, 3)))
    table.update(Tracks("cam", 2, 0, 0, 0, Status.DROPPED, "overload"))
    assert table.rows() == []


def test_a_daemon_that_names_no_first_frame_does_not_raise_an_age():
    rows = [{"id": 1, "state": "active", "box": [0.0, 0.0, 4.0, 8.0], "frame_index": 9}]
    read = read_live_tracks("cam", {"epoch": 1, "seq": 9, "tracks": rows})
    assert read.tracks[0].first_frame_index == 9
    table = LiveTable("cam")
    table.update(tracked(8, [1]))
    table.complete(read)
    assert [row.first_index for row in table.rows()] == [8]


def test_the_header_counts_frames_by_the_clock():
    clock = Clock()
    table = LiveTable("cam", clock)
    for index in range(20):
        table.update(tracked(index, [0, -1]))
        clock.now += 0.05
    table.update(Tracks("cam", 1, 20, 20, 20, Status.DROPPED, "overload"))
    assert table.fps == pytest.approx(20)
    text = text_of(table)
    assert "cam: frame 20" in text
    assert "latency 1.50 ms, 1 dropped, 0 rejected since frame 0" in text
    assert [row.id for row in table.rows()] == [0]


def test_another_epoch_begins_an_empty_table():
    table = LiveTable("cam")
    table.update(tracked(5, [1, 2]))
    table.update(Tracks("cam", 2, 0, 7, 0, Status.DROPPED, "overload"))
    assert table.rows() == []
    assert "1 dropped, 0 rejected since frame 7" in text_of(table)


def test_a_table_shows_which_tracks_are_tentative():
    table = LiveTable("cam")
    box = (0.0, 0.0, 4.0, 8.0)
    table.complete(live(1, LiveTrack(7, "tentative", box, 8, 8)))
    table.update(tracked(10, [1, 3], tentative_tracks=(3,)))
    assert [(row.id, row.state) for row in table.rows()] == [(1, "active"), (3, "tentative"), (7, "tentative")]
    assert "tentative" in text_of(table)
    table.update(tracked(11, [1, 3], ended_tracks=(7,)))
    assert [(row.id, row.state) for row in table.rows()] == [(1, "active"), (3, "active")]


def test_an_event_of_a_tentative_track_says_so():
    rows = EventRows()
    told = list(rows.of_tracks(tracked(3, [1, 2], new_tracks=(1, 2), tentative_tracks=(2,))))
    assert [(row["event"], row["track"], row.get("tentative")) for row in told] == [("new", 1, None), ("new", 2, True)]
    assert [as_text(row) for row in told] == ["cam frame 3: new track=1", "cam frame 3: new track=2 tentative"]


def test_a_table_shows_which_tracks_are_in_the_box_of_another_one():
    table = LiveTable("cam")
    table.update(tracked(9, [1, 3]))
    table.update(tracked(10, [1], merged_tracks=(3,), merged_rows=(0,)))
    one, other = table.rows()
    assert [(row.id, row.state, row.last_index) for row in (one, other)] == [(1, "active", 10), (3, "merged", 10)]
    assert one.centre == other.centre
    table.update(tracked(11, [], lost_tracks=(1, 3)))
    assert [row.state for row in table.rows()] == ["lost", "lost"]
    table.update(tracked(12, [1, 3], found_tracks=(1, 3)))
    assert [row.state for row in table.rows()] == ["active", "active"]
    table.complete(live(1, LiveTrack(7, "merged", (0.0, 0.0, 4.0, 8.0), 12, 8)))
    assert table.rows()[-1].state == "merged"


def test_events_tell_a_restored_track():
    told = list(EventRows().of_tracks(tracked(3, [1], restored_tracks=(1, 2), lost_tracks=(2,), ended_tracks=(4,))))
    assert [(row["event"], row["track"]) for row in told] == [
        ("restored", 1), ("restored", 2), ("lost", 2), ("ended", 4),
    ]  # fmt: skip


def test_events_tell_merges_and_separations_once():
    rows = EventRows()

    def told(index, ids, merged=(), **lists):
        tracks = tracked(index, ids, merged_tracks=tuple(merged), merged_rows=(0,) * len(merged), **lists)
        return [(row["event"], row["track"], row.get("with")) for row in rows.of_tracks(tracks)]

    assert told(1, [1, 2, 3]) == []
    assert told(2, [1, 3], [2]) == [("merged", 2, 1)]
    assert told(3, [2, 3], [1]) == []  # the box has another one of its ids
    assert told(4, [1], [2, 3]) == [("merged", 3, 1)]
    assert told(5, [2, 1], [3]) == [("separated", 1, 2)]
    assert told(6, [2, 3, 1]) == [("separated", 3, 2)]
    assert told(7, [1, 3], [2]) == [("merged", 2, 1)]
    assert told(8, [3], [], lost_tracks=(1, 2)) == [("lost", 1, None), ("lost", 2, None)]
    assert as_text({"stream": "cam", "frame_index": 2, "event": "merged", "track": 2, "with": 1}) == (
        "cam frame 2: merged track=2 with=1"
    )


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["replay", "none.yaml"], 2, "none.yaml: no such file"),
        (["replay"], 2, "CONFIG"),
        (["replay", "none.yaml", "--speed", "fast"], 2, "--speed must be a number above 0, or max; got 'fast'"),
        (["replay", "none.yaml", "--loop", "0"], 2, "--loop"),
        (["replay", "none.yaml", "--set", "x"], 2, "no such file"),
        (["frobnicate"], 2, "frobnicate"),
        (["watch", "--once", "--control", "tcp://127.0.0.1:1", "--timeout-s", "0.1"], 1, "is it running"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(arguments, code, text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trackd-client", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    error = capsys.readouterr().err
    assert caught.value.code == code
    assert text in error
    assert len(error.splitlines()) == 1


def test_the_client_imports_no_optional_dependency():
    code = (
        "import sys, trackd_client, trackd_client.apps.cli, trackd_client.apps.watch, trackd_client.apps.events; "
        "import trackd_client.apps.record, trackd_client.apps.play; "
        "extra = {'pydantic', 'yaml', 'cv2', 'sleap_io', 'torch', 'tifffile'} & set(sys.modules); "
        "sys.exit(f'imported: {extra}' if extra else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_every_command_that_connects_to_a_daemon_takes_key_files():
    import typer.main

    commands = typer.main.get_command(cli.app).commands
    for command in [command for name, command in commands.items() if name != "play"]:
        names = {option for parameter in command.params for option in parameter.opts}
        assert {"--server-key", "--client-key"} <= names, command.name
