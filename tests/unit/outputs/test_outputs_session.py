"""The log of a session: the files that a killed process has left are continued for the client that goes on."""

import numpy as np
import pytest
from output_records import info, record

from trackd.output_formats import WRITERS
from trackd.outputs import session_log
from trackd.outputs.files.part import read_records
from trackd.outputs.recover import recover
from trackd.outputs.session_log import SessionLog, find_session
from trackd.outputs.stream_files import StreamFiles

KINDS = tuple(WRITERS)


def frame(index, first_id=0):
    """Frame `index`; the first ones are empty, and show no nodes."""
    if index < 3:
        return record(index, [])
    return record(index, [first_id, first_id + 1], keypoints=np.full((2, 2, 2), index, np.float32))


def opened(out_dir, session="one", kinds=KINDS, **changes):
    """The files of a stream, which continue those of its session where there are any."""
    stream = info(**changes)
    earlier = None if session is None else find_session(out_dir, stream, kinds, session)
    errors = []
    log = SessionLog(out_dir, stream, kinds, session, earlier)
    files = StreamFiles(out_dir, kinds, stream, lambda: errors.append(1), log=log)
    files.open()
    return files, earlier, errors


def write(files, frames, first_id=0, first_seq=0):
    for seq, index in enumerate(frames, first_seq):
        files.write(seq, frame(index, first_id))


def kill(files):
    """What the end of the process does: the files are closed and unlocked."""
    for file in files._files:
        file.writer.park()
    if files.log._file is not None:
        files.log._file.close()


def rows(out_dir):
    """(frame, id) of each row of the .csv, in order."""
    lines = (out_dir / "cells.csv").read_text().splitlines()[1:]
    return [(int(cells[0]), int(cells[3])) for cells in (line.split(",") for line in lines)]


def expected(*parts):
    """The rows of frames with their first ids."""
    return [
        (index, track_id)
        for frames, first_id in parts
        for index in frames
        for track_id in ([first_id, first_id + 1] if index >= 3 else [-1])
    ]


@pytest.mark.parametrize("resent", [0, 2, 4, 9, 10])
def test_the_files_of_a_session_are_cut_where_its_client_sends_again(resent, tmp_path):
    files, earlier, _ = opened(tmp_path)
    assert earlier is None
    write(files, range(10))
    kill(files)
    again, earlier, errors = opened(tmp_path)
    assert earlier.next_id == 2
    write(again, range(resent, 14), first_id=2)
    again.finish()
    whole, _, _ = opened(tmp_path / "whole")
    write(whole, range(resent))
    write(whole, range(resent, 14), first_id=2, first_seq=resent)
    whole.finish()
    finished = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(finished) == len(KINDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*finished, "whole"])
    for name in ("cells.csv", "cells.txt", "cells_spots.csv", "cells.jsonl", "cells_RES/res_track.txt"):
        assert (tmp_path / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert len(list((tmp_path / "cells_RES").iterdir())) == 15
    assert rows(tmp_path) == expected((range(resent), 0), (range(resent, 14), 2))
    assert errors == []


def test_a_frame_that_only_some_of_the_files_have_is_cut_off(tmp_path):
    files, _, _ = opened(tmp_path, kinds=("slp", "csv"))
    write(files, range(5))
    files._files[0].writer.write(frame(5))
    kill(files)
    with (tmp_path / "cells.csv").open("a") as file:
        file.write("5,500")
    again, _, _ = opened(tmp_path, kinds=("slp", "csv"))
    write(again, range(5, 8), first_id=2)
    assert [found.frame_index for found in read_records(tmp_path / "cells.slp.part")] == list(range(8))
    again.finish()
    assert rows(tmp_path) == expected((range(5), 0), (range(5, 8), 2))


@pytest.mark.parametrize("changes", [{"session": "two"}, {"kinds": ("slp",)}, {"frame_shape": (80, 60)}])
def test_files_of_another_session_or_of_other_settings_are_set_aside(changes, tmp_path):
    files, _, _ = opened(tmp_path, kinds=("csv", "slp"))
    write(files, range(5))
    kill(files)
    again, earlier, errors = opened(tmp_path, **{"kinds": ("csv", "slp"), **changes})
    assert earlier is None
    write(again, range(4, 8))
    again.finish()
    expected_names = {"cells.1.slp", "cells.slp", "cells.csv"} | ({"cells.1.csv"} if "kinds" not in changes else set())
    assert {path.name for path in tmp_path.iterdir()} == expected_names
    assert errors == []


def test_a_stream_without_a_token_deletes_the_log_of_an_earlier_one(tmp_path):
    files, _, _ = opened(tmp_path, kinds=("slp",))
    write(files, range(5))
    kill(files)
    again, _, _ = opened(tmp_path, session=None, kinds=("slp",))
    write(again, range(5))
    assert [path.name for path in tmp_path.glob(".*")] == []
    again.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.1.slp", "cells.slp"]


def test_a_session_that_a_client_has_taken_over_goes_on_with_its_token(tmp_path):
    files, _, _ = opened(tmp_path)
    write(files, range(5))
    files.log.session = "two"
    write(files, range(5, 6), first_seq=5)
    kill(files)
    assert find_session(tmp_path, info(), KINDS, "one") is None
    assert find_session(tmp_path, info(), KINDS, "two").next_id == 2


def test_a_long_session_keeps_the_marks_that_a_client_can_need(tmp_path, monkeypatch):
    monkeypatch.setattr(session_log, "KEPT_MARKS", 10)
    files, _, _ = opened(tmp_path, kinds=("csv",))
    write(files, range(100))
    size = files.log.path.stat().st_size
    write(files, range(100, 1000), first_seq=100)
    assert files.log.path.stat().st_size < 2 * size
    kill(files)
    marks = find_session(tmp_path, info(), ("csv",), "one").marks
    assert 10 <= len(marks) <= 20
    assert [mark.frame_index for mark in marks] == list(range(1000 - len(marks), 1000))
    again, _, _ = opened(tmp_path, kinds=("csv",))
    write(again, range(992, 1010), first_id=2)
    again.finish()
    assert rows(tmp_path) == expected((range(992), 0), (range(992, 1010), 2))


def test_frames_that_are_sent_again_after_the_marks_are_gone_stay_as_they_are(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(session_log, "KEPT_MARKS", 10)
    files, _, _ = opened(tmp_path, kinds=("csv",))
    write(files, range(100))
    kill(files)
    first = find_session(tmp_path, info(), ("csv",), "one").marks[0].frame_index
    again, _, _ = opened(tmp_path, kinds=("csv",))
    write(again, range(50, 110), first_id=2)
    again.finish()
    assert rows(tmp_path) == expected((range(first + 1), 0), (range(first + 1, 110), 2))
    assert f"its outputs keep frame_index=50 to {first} as they are" in caplog.text


@pytest.mark.parametrize("damage", ["empty", "zeros", "cut"])
def test_a_damaged_log_continues_what_it_can_or_begins_new_files(damage, tmp_path, caplog):
    files, _, _ = opened(tmp_path, kinds=("csv",))
    write(files, range(10))
    kill(files)
    data = files.log.path.read_bytes()
    files.log.path.write_bytes({"empty": b"", "zeros": bytes(100), "cut": data[:-1]}[damage])
    again, earlier, _ = opened(tmp_path, kinds=("csv",))
    write(again, range(9, 12), first_id=2)
    again.finish()
    if damage == "cut":  # its last mark only
        assert earlier.marks[-1].frame_index == 8
        assert rows(tmp_path) == expected((range(9), 0), (range(9, 12), 2))
    else:
        assert "cannot be used" in caplog.text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.1.csv", "cells.csv"]


def test_a_file_that_was_removed_begins_anew_and_the_others_are_continued(tmp_path, caplog):
    files, _, _ = opened(tmp_path, kinds=("csv", "mot"))
    write(files, range(10))
    kill(files)
    (tmp_path / "cells.txt").unlink()
    again, _, errors = opened(tmp_path, kinds=("csv", "mot"))
    write(again, range(10, 12), first_id=2)
    again.finish()
    assert errors == [1]
    assert "its output mot cannot be continued" in caplog.text
    assert rows(tmp_path) == expected((range(10), 0), (range(10, 12), 2))
    assert len((tmp_path / "cells.txt").read_text().splitlines()) == 4


def test_a_mark_that_cannot_be_written_is_repeated_with_its_frame_and_no_row_is_there_twice(tmp_path, monkeypatch):
    files, _, _ = opened(tmp_path, kinds=("csv",))
    write(files, range(5))
    append = files.log._file.append

    def full(piece):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.log._file, "append", full)
    for _ in range(2):
        with pytest.raises(OSError, match=r"No space left on device: '.*/\.cells\.session'"):
            files.write(5, frame(5))
    monkeypatch.setattr(files.log._file, "append", append)
    write(files, range(5, 7), first_seq=5)
    kill(files)
    assert find_session(tmp_path, info(), ("csv",), "one").marks[-1].frame_index == 6
    assert rows(tmp_path) == expected((range(7), 0))


def test_recover_ends_the_session_and_leaves_the_log_of_a_living_process(tmp_path):
    files, _, _ = opened(tmp_path, kinds=("slp",))
    living, _, _ = opened(tmp_path, kinds=("slp",), name="living")
    write(files, range(5))
    kill(files)
    assert recover(tmp_path) == [tmp_path / "cells.slp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".living.session", "cells.slp", "living.slp.part"]
    living.finish()
