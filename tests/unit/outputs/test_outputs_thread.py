import threading
import time
from pathlib import Path

import numpy as np
from output_records import info

import trackd.outputs.stream_files as files_module
from trackd.engine.outcome import output_record, parents_of
from trackd.outputs.positions import Positions
from trackd.outputs.thread import OutputsThread
from trackd.outputs.writer import Writer, open_writer, writer_class
from trackd_client.detections import Detections
from trackd_client.protocol import Open, Status, Tracks


def tracks(frame_index=0, status=Status.TRACKED, **lists):
    return Tracks("cells", 0, frame_index, frame_index, 0, status, track_ids=np.array([0, 3], np.int32),
                  track_scores=np.ones(2, np.float32), boxes=np.array([[0, 0, 4, 4], [8, 8, 12, 12]], np.float32),
                  **lists)  # fmt: skip


def write(outputs: OutputsThread, name: str, settled: Tracks) -> None:
    record = output_record(settled, Detections(boxes=np.zeros((2, 4))))
    assert record is not None
    outputs.write(name, settled.seq, record)


def test_masks_and_parents_reach_the_writers():
    masks = np.zeros((40, 60), np.uint16)
    record = output_record(tracks(new_tracks=(3, 4), parents=(1, -1)), Detections(boxes=np.zeros((2, 4)), masks=masks))
    assert record.masks is masks
    assert record.parents == {3: 1}
    assert parents_of(tracks(new_tracks=(3,))) == {}


def test_a_frame_that_was_dropped_is_not_written():
    assert output_record(tracks(status=Status.DROPPED), Detections.empty()) is None
    assert output_record(tracks(), None) is None


class Slow(Writer):
    """A writer whose `close` waits for an event."""

    def __init__(self, release: threading.Event) -> None:
        self.path = Path("slow")
        self._release = release

    @classmethod
    def set_aside(cls, out_dir, name):
        pass

    def write(self, record):
        pass

    def position(self):
        return {}

    def park(self):
        pass

    def close(self):
        assert self._release.wait(10)


class Failing(Slow):
    def write(self, record):
        raise ValueError("not in this format")


class Full(Slow):
    """A writer on a full disk: `write` fails until an event."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__(threading.Event())
        self._release.set()
        self._has_room = release
        self.taken: list[int] = []

    def write(self, record):
        if not self._has_room.is_set():
            raise OSError(28, "No space left on device")
        self.taken.append(record.frame_index)


def started(tmp_path, monkeypatch, release, made=Slow, clock=lambda: 0.0):
    errors = []
    monkeypatch.setattr(
        files_module, "open_writer", lambda kind, *rest: made(release) if kind == "slow" else open_writer(kind, *rest)
    )
    monkeypatch.setattr(files_module, "writer_class", lambda kind: Slow if kind == "slow" else writer_class(kind))
    outputs = OutputsThread(tmp_path, lambda: errors.append(1), clock=clock)
    thread = threading.Thread(target=outputs.run)
    thread.start()
    return outputs, thread, errors


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def all_written(outputs, name, seq):
    """Whether the records of a stream up to a seq are written."""
    return outputs.written_seq(name, seq) == seq


def test_frames_of_a_stream_do_not_wait_for_the_file_of_another_to_be_finished(tmp_path, monkeypatch):
    release = threading.Event()
    outputs, thread, errors = started(tmp_path, monkeypatch, release)
    outputs.open("one", ["slow"], Open("one"))
    outputs.close("one")
    outputs.open("two", ["mot"], Open("two"))
    write(outputs, "two", tracks())
    wait_until(lambda: all_written(outputs, "two", 0))
    assert len((tmp_path / "two.txt").read_text().splitlines()) == 2
    release.set()
    outputs.stop()
    thread.join(10)
    assert outputs.paths == [Path("slow"), tmp_path / "two.txt"]
    assert errors == []


def test_a_writer_that_fails_is_counted_each_time_and_logged_once_and_the_others_are_written(
    tmp_path, monkeypatch, caplog
):
    release = threading.Event()
    release.set()
    outputs, thread, errors = started(tmp_path, monkeypatch, release, Failing)
    outputs.open("one", ["slow", "mot"], Open("one"))
    for i in range(3):
        write(outputs, "one", tracks(i))
    outputs.stop()
    thread.join(10)
    assert len(errors) == 3
    assert len(caplog.records) == 1
    assert len((tmp_path / "one.txt").read_text().splitlines()) == 6


def test_records_wait_while_a_disk_is_full_and_no_other_stream_waits(tmp_path, monkeypatch):
    now_s = 0.0
    has_room = threading.Event()
    made: list[Full] = []
    outputs, thread, errors = started(
        tmp_path, monkeypatch, has_room, lambda event: made.append(Full(event)) or made[0], lambda: now_s
    )
    outputs.open("one", ["slow"], Open("one"))
    outputs.open("two", ["mot"], Open("two"))
    for i in range(300):
        write(outputs, "one", tracks(i))
        write(outputs, "two", tracks(i))
    wait_until(lambda: all_written(outputs, "two", 299) and outputs.fault("one"))
    assert len((tmp_path / "two.txt").read_text().splitlines()) == 600
    assert "No space left on device" in outputs.fault("one")
    assert outputs.fault("two") is None
    assert outputs.is_behind("one")
    assert not outputs.is_behind("two")
    has_room.set()
    now_s = 1.0
    outputs.take_progress()
    write(outputs, "two", tracks(300))  # wakes the thread, which tries again
    wait_until(lambda: outputs.fault() is None and not outputs.is_behind("one"))
    wait_until(lambda: all_written(outputs, "one", 299))
    assert "one" in outputs.take_progress()[0]
    outputs.stop()
    thread.join(10)
    assert made[0].taken == list(range(300))
    assert errors == []


def test_a_stream_that_closes_on_a_full_disk_logs_its_lost_frames_and_its_other_files_are_complete(
    tmp_path, monkeypatch, caplog
):
    outputs, thread, errors = started(tmp_path, monkeypatch, threading.Event(), Full)
    outputs.open("one", ["slow", "mot"], Open("one"))
    for i in range(3):
        write(outputs, "one", tracks(i))
    outputs.close("one")
    outputs.stop()
    thread.join(10)
    assert len(errors) == 3
    assert "3 frames are lost to it: frame_index=0 to 2" in caplog.text
    assert len((tmp_path / "one.txt").read_text().splitlines()) == 6
    assert outputs.fault() is None
    assert not outputs.is_behind("one")


def test_a_stream_that_is_opened_again_at_once_keeps_both_files(tmp_path, monkeypatch):
    outputs, thread, errors = started(tmp_path, monkeypatch, threading.Event())
    for _ in range(2):
        outputs.open("one", ["slp", "ctc"], Open("one", frame_shape=info().frame_shape))
        write(outputs, "one", tracks())
        outputs.close("one")
    outputs.stop()
    thread.join(20)
    assert errors == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.1.slp", "one.slp", "one_RES", "one_RES.1"]


class Patient(Slow):
    """A writer whose `write` takes some time."""

    def write(self, record):
        time.sleep(0.02)


def test_a_stream_with_slow_files_delays_another_one_by_a_frame_at_a_time(tmp_path, monkeypatch):
    release = threading.Event()
    release.set()
    outputs, thread, errors = started(tmp_path, monkeypatch, release, Patient, time.monotonic)
    outputs.open("one", ["slow"], Open("one"))
    for i in range(100):  # two seconds
        write(outputs, "one", tracks(i))
    outputs.open("two", ["mot"], Open("two"))
    for i in range(50):
        write(outputs, "two", tracks(i))
    wait_until(lambda: all_written(outputs, "two", 49))
    assert outputs.written_seq("one", 99) < 50
    outputs.stop()
    thread.join(10)
    assert errors == []


def test_a_stream_that_waits_for_an_earlier_file_of_its_name_does_not_hold_up_others(tmp_path, monkeypatch):
    release = threading.Event()
    outputs, thread, errors = started(tmp_path, monkeypatch, release)
    outputs.open("one", ["slow"], Open("one"))
    outputs.close("one")
    outputs.open("one", ["mot"], Open("one"))
    write(outputs, "one", tracks())
    outputs.open("two", ["mot"], Open("two"))
    write(outputs, "two", tracks())
    wait_until(lambda: all_written(outputs, "two", 0))
    assert not (tmp_path / "one.txt").exists()
    assert not all_written(outputs, "one", 0)
    release.set()
    wait_until(lambda: all_written(outputs, "one", 0))
    outputs.stop()
    thread.join(10)
    assert outputs.paths == [Path("slow"), tmp_path / "one.txt", tmp_path / "two.txt"]
    assert outputs.n_open_files == 0
    assert errors == []


def test_the_end_of_a_stream_comes_after_its_records_are_written(tmp_path, monkeypatch):
    release = threading.Event()
    release.set()
    outputs, thread, _ = started(tmp_path, monkeypatch, release, Patient, time.monotonic)
    outputs.open("one", ["slow"], Open("one"))
    for i in range(10):
        write(outputs, "one", tracks(i))
    called = []
    outputs.end("one", lambda: called.append(outputs.written_seq("one", 9)))
    done = []
    wait_until(lambda: done.extend(outputs.take_progress()[1]) or done)
    done[0]()
    assert called == [9]
    outputs.close("one")
    outputs.stop()
    thread.join(10)


def test_frames_without_records_are_saved_too_so_that_the_journal_need_not_keep_them(tmp_path):
    saved = []
    positions = Positions(tmp_path)
    outputs = OutputsThread(tmp_path, lambda: None, positions=positions, on_saved=lambda *news: saved.append(news))
    thread = threading.Thread(target=outputs.run)
    thread.start()
    assert outputs.open("one", ["mot"], Open("one"), 7) == -1
    write(outputs, "one", tracks(3))
    wait_until(lambda: ("one", 3) in saved)  # half a second later
    for seq in range(4, 200):
        outputs.skip("one", seq)
    wait_until(lambda: ("one", 195) in saved)
    assert len(saved) == 4
    outputs.stop()
    thread.join(10)
    assert positions.get("one", 7).seq == 195
    again = OutputsThread(tmp_path, lambda: None, positions=positions)
    assert again.open("one", ["mot"], Open("one"), 7, settled_seq=199) == 195


def test_files_that_cannot_be_opened_after_a_restart_are_continued_by_a_later_one(tmp_path, caplog):
    folder, away = tmp_path / "results", tmp_path / "away"
    for first, last in ((0, 5), (5, 5), (5, 8)):
        if first == last:  # another disk is mounted, say
            folder.rename(away)
            folder.touch()
        elif away.exists():
            folder.unlink()
            away.rename(folder)
        outputs = OutputsThread(folder, lambda: None, positions=Positions(tmp_path))
        assert outputs.open("one", ["mot", "csv"], Open("one"), 7, settled_seq=first - 1) == first - 1
        for seq in range(first, last):
            write(outputs, "one", tracks(seq))
        outputs.stop()
        outputs.run()
    assert "cannot be written" in caplog.text
    assert [int(line.split(",")[0]) for line in (folder / "one.txt").read_text().splitlines()[::2]] == list(range(1, 9))
    assert len((folder / "one.csv").read_text().splitlines()) == 17
    assert sorted(path.name for path in folder.iterdir()) == ["one.csv", "one.txt"]
