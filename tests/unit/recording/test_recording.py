"""A recording's hand-over and its folder: what waits is bounded, what is left out is a gap, and each has its file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from trackd.config import RecordingConfig
from trackd.recording import folder as of_folder
from trackd.recording import recording as one
from trackd.recording.recorder import Recorder, RecordingError
from trackd.recording.recording import Recording
from trackd_client.configuration import ConfigError
from trackd_client.message_log.reader import LogReader
from trackd_client.message_log.record import Kind, Record
from trackd_client.message_log.writer import LogWriter
from trackd_client.protocol import Event, EventName, Status, Tracks, encode


class Desk:
    """A recorder without its thread: `run` does its work, and what it delivers, on the test's own thread."""

    def __init__(self, path: Path | None, **config: int) -> None:
        self.delivered: list = []
        self.recorder = Recorder(
            RecordingConfig(dir=None if path is None else str(path), **config), self.delivered.append
        )
        self.started: list[tuple[Recording, str | None]] = []

    def start(self, stream: str, author: str = "") -> None:
        self.recorder.start(stream, author, 6, lambda *what: self.started.append(what))

    def work(self) -> None:
        self.recorder.close()
        self.recorder.run()
        while self.delivered:
            self.delivered.pop(0)()


def put(recording: Recording, seq: int, nbytes: int = 10) -> None:
    recording.put(b"tracks/cam/", [b"x" * nbytes], nbytes, 1, seq)


def test_messages_beyond_the_bound_become_one_gap_before_the_next_that_has_room(monkeypatch):
    monkeypatch.setattr(one, "MOST_WAITING_BYTES", 25)
    handed: list[Record] = []
    recording = Recording("cam", "cam-1", "", 0, lambda _, record: handed.append(record), time.monotonic_ns())
    for seq in range(5):
        put(recording, seq)
    recording.put(b"events/cam/", [b"x" * 10], 10)  # an event is left out too, and is no settlement
    assert [record.kind for record in handed] == [Kind.MESSAGE] * 2
    recording.taken(20)
    put(recording, 5)
    assert [record.kind for record in handed[2:]] == [Kind.GAP, Kind.MESSAGE]
    assert b'"from_seq": 2, "to_seq": 4' in handed[2].parts[0]
    assert (recording.messages, recording.missing) == (3, 3)


def test_a_recording_has_a_folder_of_its_own_that_a_later_daemon_lists(tmp_path):
    desk = Desk(tmp_path)
    desk.start("cam", "ada")
    recording = desk.recorder.taps["cam"]
    put(recording, 0)
    assert recording.name.startswith("cam-20")
    desk.work()
    assert desk.started == [(recording, None)]
    assert recording.is_started
    assert recording.reason == "the daemon has ended"
    (row,) = of_folder.finished(tmp_path, frozenset())
    assert (row["stream"], row["author"], row["messages"], row["active"]) == ("cam", "ada", 1, False)
    assert [record.parts for record in LogReader(tmp_path / recording.name).records()] == [(b"tracks/cam/", b"x" * 10)]
    assert of_folder.finished(tmp_path, frozenset([recording.name])) == []


def cut(path: Path, *seqs: int) -> Recording:
    """Record settlements and an event, and leave the files as a kill would."""
    desk = Desk(path)
    desk.start("cam", "ada")
    recording = desk.recorder.taps["cam"]
    for seq in seqs:
        header = bytes(encode(Tracks("cam", 1, seq, seq, 1, Status.DROPPED, "overload"))[0])
        recording.put(b"tracks/cam/", [header], len(header), 1, seq)
        header = bytes(encode(Event("cam", EventName.HEARTBEAT, 1, seq))[0])
        recording.put(b"events/cam/", [header], len(header))
    desk.work()
    info = json.loads((path / recording.name / of_folder.INFO).read_text())
    kept = {key: info[key] for key in ("stream", "author", "t_ns", "after_seq")}
    (path / recording.name / of_folder.INFO).write_text(json.dumps(kept))
    return recording


def test_a_recording_that_was_cut_goes_on_after_the_last_settlement_that_it_has(tmp_path):
    before = cut(tmp_path, *range(7, 107))
    desk, asked = Desk(tmp_path), []
    found = desk.recorder.unfinished()
    assert found == {"cam": of_folder.Unfinished(before.name, "ada", before.t_ns, 6)}

    def missed(seq: int) -> list[Record]:
        asked.append(seq)
        return [Record(Kind.HISTORY, 0, 0, (b"a",))]

    goes_on = desk.recorder.go_on("cam", found["cam"], missed)
    assert goes_on is not None
    assert (asked, goes_on.messages, goes_on.t_ns, goes_on.is_started) == ([106], 201, before.t_ns, True)
    put(goes_on, 108)
    desk.work()
    reader = LogReader(tmp_path / before.name)
    assert [record.kind for record in reader.records()][-2:] == [Kind.HISTORY, Kind.MESSAGE]
    assert reader.count() == 202
    assert Desk(tmp_path).recorder.unfinished() == {}


def test_a_recording_that_was_cut_before_its_first_message_goes_on_after_its_start(tmp_path):
    cut(tmp_path)
    desk, asked = Desk(tmp_path), []
    desk.recorder.go_on("cam", desk.recorder.unfinished()["cam"], lambda seq: asked.append(seq) or [])
    assert asked == [6]
    desk.work()


def test_a_log_that_has_begun_is_one_for_a_reader_before_its_first_record(tmp_path):
    with LogWriter(tmp_path / "log", 1000) as log:
        log.begin()
        assert list(LogReader(tmp_path / "log").records()) == []
        log.begin()
    assert len(list((tmp_path / "log").glob("*.messages"))) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"stream": 1}', "\x00", '{"stream": "a", "author": "b", "t_ns": "x"}']
)
def test_a_folder_whose_file_is_not_valid_is_not_listed(tmp_path, text):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / of_folder.INFO).write_text(text)
    assert of_folder.finished(tmp_path, frozenset()) == []


def test_what_cannot_be_recorded_is_one_line(tmp_path):
    with pytest.raises(RecordingError, match=r"recording\.dir is not set"):
        Desk(None).start("cam")
    desk = Desk(tmp_path, at_once=1)
    desk.start("cam")
    with pytest.raises(RecordingError, match="'cam' is recorded already, as cam-20"):
        desk.start("cam")
    with pytest.raises(RecordingError, match="at_once allows 1 recordings at once; stop one of cam"):
        desk.start("other")
    with pytest.raises(RecordingError, match="'other' is not recorded"):
        desk.recorder.stop("other", lambda _: None)


def test_a_folder_that_was_taken_away_refuses_the_start_and_frees_the_stream(tmp_path):
    desk = Desk(tmp_path / "recordings")
    (tmp_path / "recordings").rmdir()
    (tmp_path / "recordings").write_text("a file")
    desk.start("cam")
    desk.work()
    assert "cannot be written to" in str(desk.started[0][1])
    assert desk.recorder.taps == {}


def test_a_recording_that_cannot_be_written_ends_and_is_told(tmp_path):
    desk = Desk(tmp_path, max_bytes=1_048_576)
    ended: list[Recording] = []
    desk.recorder.on_ended = ended.append
    desk.start("cam")
    recording = desk.recorder.taps["cam"]
    for seq in range(3):
        put(recording, seq, 600_000)
    desk.work()
    assert ended == [recording]
    assert "at most 1048576" in str(recording.reason)
    assert desk.recorder.taps == {}


def test_a_folder_that_cannot_be_made_is_one_line_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"recording\.dir must be a folder that can be written to: .*; got"):
        Desk(tmp_path / "file" / "below")
