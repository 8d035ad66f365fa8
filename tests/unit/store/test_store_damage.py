"""A damaged journal is never read as a whole one: what was acked is there, or one line names what is missing."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from journal_files import (
    FILES,
    HEAD,
    JOURNAL,
    LOG,
    acked_contents,
    content,
    contents,
    frame,
    kill,
    killed_files,
    open_database,
    opened,
    snapshot,
)

from trackd.store.records import CloseRecord
from trackd.store.repair import check, repair
from trackd_client.configuration import ConfigError


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    return killed_files(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def acked(killed, tmp_path_factory) -> dict[str, tuple[object, ...]]:
    return acked_contents(killed, tmp_path_factory.mktemp("whole") / "state")


@pytest.mark.parametrize("names", [(JOURNAL,), (LOG,), (HEAD,), (JOURNAL, LOG), (LOG, HEAD), (JOURNAL, HEAD)])
def test_missing_files_are_never_silent(killed, acked, tmp_path, caplog, names):
    folder = tmp_path / "state"
    shutil.copytree(killed, folder)
    for name in names:
        (folder / name).unlink()
    with caplog.at_level(logging.ERROR):
        all_gone = JOURNAL in names and HEAD in names
        database = open_database(folder)
    stored = {each.opened.stream: each for each in database.streams()}
    database.close()
    if JOURNAL in names:
        assert stored == {}
        assert all_gone or all(f"'{stream}'" in caplog.text for stream in acked)
    else:
        assert all(stored[stream].hole is not None or f"'{stream}'" in caplog.text for stream in acked if stream != "")
    if JOURNAL in names and LOG not in names:
        assert (folder / f"{LOG}.1").exists()
        assert f"{LOG}.1" in caplog.text


def test_an_empty_folder_starts_without_a_line(tmp_path, caplog):
    database = open_database(tmp_path)
    assert contents(database) == {}
    database.close()
    assert caplog.text == ""


def test_a_kill_between_the_journal_and_the_head_file_loses_nothing(tmp_path):
    for name, last in {
        "frame": [frame("cam", 5)],
        "open": [opened("new", 7)],
        "settings": [opened("cam"), snapshot("cam", 4)],
        "reset": [opened("cam", 9, 5), snapshot("cam", 4, 9)],
        "close": [CloseRecord("cam")],
        "reopen": [CloseRecord("cam"), opened("cam", 8), frame("cam", 0, 8)],
    }.items():
        (tmp_path / name).mkdir()
        database = open_database(tmp_path / name)
        database.write([opened("cam"), *(frame("cam", seq) for seq in range(5))])
        before = (tmp_path / name / HEAD).read_bytes()
        database.write(last)
        after = contents(database)
        killed = kill(database, tmp_path / f"{name}-killed")
        database.close()
        if name not in ("close", "reopen"):  # the head file states a close before the journal has it
            (killed / HEAD).write_bytes(before)
            again = open_database(killed)
            assert contents(again) == after, name
            assert not again._holes, name
            again.close()


def test_a_kill_between_the_head_file_and_the_close_keeps_the_stream(tmp_path):
    database = open_database(tmp_path)
    database.write([opened("cam"), *(frame("cam", seq) for seq in range(5))])
    expected = contents(database)
    database._file.db.execute("PRAGMA query_only = 1")
    with pytest.raises(Exception, match="readonly"):
        database.write([CloseRecord("cam")])
    killed = kill(database, tmp_path / "killed")
    database.close()
    again = open_database(killed)
    assert contents(again) == expected
    assert not again._holes
    again.close()


def test_a_close_whose_transaction_is_missing_stays_a_close(tmp_path):
    database = open_database(tmp_path)
    database.write([opened("cam", 5), *(frame("cam", seq, 5) for seq in range(5))])
    log = (tmp_path / LOG).read_bytes()
    database.write([CloseRecord("cam")])
    killed = kill(database, tmp_path / "killed")
    database.close()
    (killed / LOG).write_bytes(log)
    again = open_database(killed)
    assert contents(again) == {}
    assert again.highest_epoch == 5
    again.close()
    assert check(killed).whole


def test_a_hole_is_found_again_until_its_new_epoch_is_stored(killed, tmp_path):
    folder = tmp_path / "state"
    shutil.copytree(killed, folder)
    (folder / LOG).unlink()
    for _ in range(3):
        database = open_database(folder)
        (stored,) = (each for each in database.streams() if each.opened.stream == "cam")
        assert stored.last_seq == 119
        assert stored.hole is not None
        assert "to 119 were settled and are missing" in stored.hole
        database.close()
    database = open_database(folder)
    for stored in list(database.streams()):
        fresh = stored.in_new_epoch(database.highest_epoch + 1)
        database.write([fresh.opened, snapshot(fresh.opened.stream, fresh.last_seq, fresh.opened.epoch)])
        database.write([frame(fresh.opened.stream, fresh.last_seq + 1, fresh.opened.epoch)])
    database.close()
    database = open_database(folder)
    assert not database._holes
    assert {each.frames[-1].seq for each in database.streams() if each.opened.stream == "cam"} == {120}
    database.close()
    assert check(folder).whole


def test_epochs_stay_known_after_a_close_and_a_restart(tmp_path):
    database = open_database(tmp_path)
    database.write([opened("cam", 1000)])
    database.write([CloseRecord("cam")])
    database.fold()
    database.write([opened("other", 900)])
    database.close()
    for missing in (None, HEAD):
        if missing is not None:
            (tmp_path / missing).unlink()
        database = open_database(tmp_path)
        assert database.highest_epoch == 1000
        database.close()


def test_many_streams_that_open_and_close_do_not_let_the_head_file_grow(tmp_path):
    database = open_database(tmp_path)
    for number in range(1000):
        database.write([opened(f"cam{number}", number)])
        database.write([CloseRecord(f"cam{number}")])
        if number % 50 == 49:
            database.fold()
    assert (tmp_path / HEAD).stat().st_size <= 256 * 65
    database.close()


def test_a_head_file_that_is_deleted_is_written_again(tmp_path):
    database = open_database(tmp_path)
    database.write([opened("cam"), frame("cam", 0)])
    (tmp_path / HEAD).unlink()
    database.write([frame("cam", 1)])
    killed = kill(database, tmp_path / "killed")
    database.close()
    assert check(killed).whole


# --- check and repair ---


def test_check_changes_nothing_and_names_what_is_stored(killed, tmp_path):
    folder = tmp_path / "state"
    shutil.copytree(killed, folder)
    before = {name: (folder / name).read_bytes() for name in FILES}
    report = check(folder)
    assert report.whole
    assert {stream: rows.last_seq for stream, rows in report.streams.items()} == {
        "cam": 119, "reset": 119, "again": 78,
    }  # fmt: skip
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_repair_keeps_the_damaged_files_and_what_is_saved_is_continued(killed, acked, tmp_path):
    folder = tmp_path / "state"
    shutil.copytree(killed, folder)
    database = open_database(folder)
    database.fold()
    database._file.db.execute("UPDATE frames SET body = x'00' WHERE stream = 'cam' AND seq = 110")
    database._file.db.execute("UPDATE frames SET body = x'00' WHERE stream = 'reset' AND seq = 10")
    database.close()
    with pytest.raises(
        ConfigError, match=r"stream 'reset' seq 10: the frame does not match its checksum \(and 1 more\)"
    ):
        open_database(folder)
    damaged = (folder / JOURNAL).read_bytes()
    report = repair(folder)
    assert report.kept == folder / "journal.damaged.1"
    assert (report.kept / JOURNAL).read_bytes() == damaged
    database = open_database(folder)
    stored = {each.opened.stream: each for each in database.streams()}
    assert content(stored["again"]) == acked["again"]
    assert stored["cam"].hole is not None  # a restart would need frame 110
    assert [row.seq for row in stored["cam"].frames][-1] == 109
    assert stored["cam"].last_seq == 119
    assert stored["reset"].hole is None  # frame 10 is in the history only
    assert [row.seq for row in stored["reset"].frames] == list(range(11, 120))
    database.close()


def test_a_folder_in_use_or_without_a_journal_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no journal"):
        check(tmp_path)
    database = open_database(tmp_path)
    for run in (check, repair):
        with pytest.raises(ConfigError, match="is used by a daemon; stop it first"):
            run(tmp_path)
    database.close()
