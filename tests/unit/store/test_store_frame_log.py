"""The frame log: what was appended is there after a kill, in order, and damage of a segment is never silent."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import struct
from pathlib import Path
from zlib import crc32

import pytest
from journal_files import (
    HEAD,
    JOURNAL,
    LOG,
    MB,
    SEGMENT,
    append_all,
    contents,
    frame,
    kill,
    open_database,
    opened,
    snapshot,
)

from trackd.store import frame_log, segments
from trackd.store.database import Database
from trackd.store.records import CloseRecord
from trackd.store.repair import check, repair
from trackd.store.segments import SEGMENT_BYTES, read_log, segment_paths


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "state")
    database.write([opened("cam"), opened("other")])
    database.prepare_log()
    yield database
    database.close()


def restart(database: Database, to: Path) -> tuple[Database, dict[str, tuple[object, ...]]]:
    """Open the files as a kill leaves them; return also what a restart reads."""
    again = open_database(kill(database, to))
    return again, contents(again)


def seqs(found: dict[str, tuple[object, ...]], stream: str = "cam") -> list[int]:
    return [row[0] for row in found[stream][2]]


def test_frames_that_were_appended_are_those_that_a_restart_reads(tmp_path, database):
    append_all(database, [[frame("cam", seq), frame("other", seq)] for seq in range(20)])
    reference = open_database(tmp_path / "reference")
    reference.write([opened("cam"), opened("other")])
    for seq in range(20):
        reference.write([frame("cam", seq), frame("other", seq)])
    again, found = restart(database, tmp_path / "killed")
    assert found == contents(reference)
    assert not again._holes
    assert again.unmoved == 0
    assert segment_paths(tmp_path / "killed") == {}
    again.close()
    reference.close()


@pytest.mark.parametrize("moved", [0, 7, 20])
def test_frames_may_be_in_both_files(tmp_path, database, moved):
    append_all(database, [[frame("cam", seq)] for seq in range(moved)])
    database.move()
    append_all(database, [[frame("cam", seq)] for seq in range(moved, 20)])
    again, found = restart(database, tmp_path / "killed")
    assert seqs(found) == list(range(20))
    again.close()
    assert check(tmp_path / "killed").whole


def test_records_that_are_no_frames_come_behind_the_frames_before_them(tmp_path, database):
    append_all(database, [[frame("cam", seq)] for seq in range(5)])
    database.write([snapshot("cam", 4), frame("cam", 5)])
    append_all(database, [[frame("cam", 6)]])
    database.write([CloseRecord("cam"), opened("cam", 9)])
    append_all(database, [[frame("cam", 0, 9)], [frame("other", 0)]])
    again, found = restart(database, tmp_path / "killed")
    assert not again._holes
    assert [row[:2] for row in found["cam"][2]] == [(0, 9)]
    assert seqs(found, "other") == [0]
    again.close()


def test_segments_are_created_ahead_and_deleted_when_their_frames_are_in_sqlite(tmp_path, database):
    folder = tmp_path / "state"
    most = 0
    for seq in range(60):
        append_all(database, [[frame("cam", seq, nbytes=100_000)]])
        most = max(most, len(segment_paths(folder)))
        if seq % 10 == 9:
            database.move()
    database.prepare_log()
    assert most <= 4
    assert min(segment_paths(folder)) > 4
    again, found = restart(database, tmp_path / "killed")
    assert seqs(found) == list(range(found["cam"][2][0][0], 60))
    again.close()


def test_the_log_takes_no_frame_that_is_too_large_and_none_without_a_segment(tmp_path):
    database = open_database(tmp_path)
    database.write([opened("cam")])
    assert not database.append([frame("cam", 0)])
    database.prepare_log()
    assert not database.append([frame("cam", 0, nbytes=SEGMENT_BYTES)])
    assert not database.append([frame("cam", 0), snapshot("cam", 0)])
    assert database.append([frame("cam", 0)])
    for seq in range(1, 40):
        if not database.append([frame("cam", seq, nbytes=100_000)]):
            break
    assert 5 < seq < 25
    database.write([frame("cam", seq, nbytes=100_000)])
    assert seqs(contents(database)) == list(range(seq + 1))
    database.close()


def test_a_stop_deletes_the_segments_and_keeps_what_was_not_moved(tmp_path):
    database = open_database(tmp_path / "state")
    database.write([opened("cam")])
    append_all(database, [[frame("cam", 0)]])
    database.move()
    database.close()
    assert segment_paths(tmp_path / "state") == {}
    again = open_database(tmp_path / "state")
    append_all(again, [[frame("cam", 1)]])
    again.close()
    assert list(segment_paths(tmp_path / "state")) != []
    last = open_database(tmp_path / "state")
    assert seqs(contents(last)) == [0, 1]
    last.close()


def test_a_daemon_with_durability_power_reads_the_log_and_writes_none(tmp_path, database):
    append_all(database, [[frame("cam", 0)]])
    killed = kill(database, tmp_path / "killed")
    power = Database(killed / JOURNAL, True, 4 * MB, 1000)
    power.prepare_log()
    assert not power.append([frame("cam", 1)])
    assert seqs(contents(power)) == [0]
    assert segment_paths(killed) == {}
    power.close()


def test_a_write_that_a_kill_cuts_at_a_page_is_a_frame_that_was_not_acked(tmp_path, database):
    append_all(database, [[frame("cam", seq, nbytes=3000)] for seq in range(10)])
    path = tmp_path / "state" / SEGMENT
    before = len(path.read_bytes().rstrip(b"\0"))
    append_all(database, [[frame("cam", 10, nbytes=20_000)]])
    data = path.read_bytes()
    after = len(data.rstrip(b"\0"))
    boundaries = range(-(-before // 4096) * 4096, after, 4096)
    assert len(boundaries) > 3
    for boundary in boundaries:
        killed = kill(database, tmp_path / str(boundary))
        (killed / SEGMENT).write_bytes(data[:boundary].ljust(SEGMENT_BYTES, b"\0"))
        assert check(killed).whole
        again = open_database(killed)
        assert not again._holes
        assert seqs(contents(again)) == list(range(10))
        again.close()


def test_every_flipped_bit_and_every_cut_of_a_segment_is_noticed(tmp_path, database):
    append_all(database, [[frame("cam", seq), frame("other", seq)] for seq in range(10)])
    path = tmp_path / "state" / SEGMENT
    data = path.read_bytes()
    written = len(data.rstrip(b"\0"))
    rng = random.Random(4)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for place in [
        *range(0, 64),
        *range(64, written, 7),
        written,
        *(rng.randrange(written, len(data)) for _ in range(9)),
    ]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        (folder / SEGMENT).write_bytes(flipped)
        assert SEGMENT in read_log(folder, range(1, 2)).damage, place
    for place in [0, 15, 16, written - 1, written, 4096, len(data) - 1]:
        (folder / SEGMENT).write_bytes(data[:place])
        assert SEGMENT in read_log(folder, range(1, 2)).damage, place


@pytest.mark.parametrize("what", ["flip", "missing", "cut", "another segment"])
def test_a_damaged_segment_is_one_line_and_a_hole_in_each_stream_until_its_new_epoch(tmp_path, database, caplog, what):
    append_all(database, [[frame("cam", seq)] for seq in range(10)])
    killed = kill(database, tmp_path / "killed")
    path = killed / SEGMENT
    data = path.read_bytes()
    if what == "flip":
        path.write_bytes(data.replace(frame("cam", 5).body["boxes"].tobytes(), bytes(200)))
    elif what == "missing":
        path.unlink()
    elif what == "cut":
        path.write_bytes(data[:500])
    else:
        folder = tmp_path / "other"
        folder.mkdir()
        os.close(segments.create_segment(folder, 2))
        (folder / "frames-000002.log").write_bytes(data)
        shutil.copy(folder / "frames-000002.log", killed)
    report = check(killed)
    assert not report.whole
    assert set(report.holes) == {"cam", "other"}
    shutil.copytree(killed, tmp_path / "repaired")
    for start in range(2):
        with caplog.at_level(logging.ERROR):
            again = open_database(killed)
        assert set(again._holes) == {"cam", "other"}
        assert start > 0 or "may be missing" in again._holes["other"]
        again.close()
    if what != "missing":
        assert "is damaged" in caplog.text
        assert sum("kept as" in record.getMessage() for record in caplog.records) == 1
        assert list(killed.glob("frames-*.kept"))
    again = open_database(killed)
    for stored in list(again.streams()):
        fresh = stored.in_new_epoch(again.highest_epoch + 1)
        again.write([fresh.opened, snapshot(fresh.opened.stream, fresh.last_seq, fresh.opened.epoch)])
    again.close()
    assert check(killed).whole
    report = repair(tmp_path / "repaired")
    assert report.kept is not None
    saved = open_database(tmp_path / "repaired")
    assert set(saved._holes) == {"cam", "other"}
    kept = {"flip": 5, "missing": 0, "cut": 1, "another segment": 10}[what]
    assert seqs(contents(saved)) == list(range(kept))
    saved.close()


def test_frames_whose_predecessors_are_missing_are_a_hole(tmp_path, database):
    """SQLite lacks its last transactions, and the segment of their frames was deleted."""
    append_all(database, [[frame("cam", 0)]])
    database.move()
    before = kill(database, tmp_path / "before")
    append_all(database, [[frame("cam", seq)] for seq in range(1, 5)])
    database.move()
    database._log.start_over()
    append_all(database, [[frame("cam", seq)] for seq in range(5, 9)])
    killed = kill(database, tmp_path / "killed")
    for name in (JOURNAL, LOG):
        shutil.copy(before / name, killed)
    for head in (True, False):
        folder = tmp_path / f"head {head}"
        shutil.copytree(killed, folder)
        if not head:
            (folder / HEAD).unlink()
        again = open_database(folder)
        assert "missing" in again._holes["cam"]
        (stored,) = (each for each in again.streams() if each.opened.stream == "cam")
        assert [row.seq for row in stored.frames] == [0]
        assert stored.last_seq == 8
        again.close()


def test_segments_below_those_that_the_head_file_states_are_ignored_and_deleted(tmp_path, database):
    append_all(database, [[frame("cam", 0)]])
    killed = kill(database, tmp_path / "killed")
    open_database(killed).close()
    (killed / SEGMENT).write_bytes(b"left over")
    again = open_database(killed)
    assert not again._holes
    assert segment_paths(killed) == {}
    again.close()


def test_a_write_of_a_part_of_a_record_fails_and_is_overwritten(tmp_path, database, monkeypatch):
    append_all(database, [[frame("cam", 0)]])
    pwrite = os.pwrite

    def short(fd: int, data: bytes, offset: int) -> int:
        return pwrite(fd, data[:4096], offset)

    monkeypatch.setattr(frame_log.os, "pwrite", short)
    for _ in range(2):
        with pytest.raises(OSError, match="part of a record"):
            database.append([frame("cam", 1, nbytes=20_000)])
    monkeypatch.setattr(frame_log.os, "pwrite", pwrite)
    killed = kill(database, tmp_path / "first")
    append_all(database, [[frame("cam", 1, nbytes=30)]])
    again, found = restart(database, tmp_path / "second")
    assert not again._holes
    assert seqs(found) == [0, 1]
    again.close()
    again = open_database(killed)
    assert not again._holes
    assert seqs(contents(again)) == [0]
    again.close()


def test_a_move_that_fails_moves_nothing_and_is_repeated(tmp_path, database):
    append_all(database, [[frame("cam", seq)] for seq in range(5)])
    database._file.db.execute("PRAGMA query_only = 1")
    for _ in range(2):
        with pytest.raises(Exception, match="readonly"):
            database.move()
    assert database.unmoved == 5
    append_all(database, [[frame("cam", 5)]])
    database._file.db.execute("PRAGMA query_only = 0")
    assert database.move()
    assert database.unmoved == 0
    assert seqs(contents(database)) == list(range(6))


@pytest.mark.parametrize("missing", [SEGMENT, "", HEAD])
def test_files_that_are_deleted_are_written_again_with_the_frames_of_the_log(tmp_path, database, missing):
    folder = tmp_path / "state"
    append_all(database, [[frame("cam", seq)] for seq in range(5)])
    if missing:
        (folder / missing).unlink()
    else:
        shutil.rmtree(folder)
    assert not database.move()
    database.restore()
    append_all(database, [[frame("cam", seq)] for seq in range(5, 8)])
    again, found = restart(database, tmp_path / "killed")
    assert not again._holes
    assert seqs(found) == list(range(8))
    again.close()


def test_a_head_file_of_the_earlier_version_is_read(tmp_path):
    database = open_database(tmp_path)
    database.write([opened("cam"), *(frame("cam", seq) for seq in range(5))])
    expected = contents(database)
    database.close()
    data = bytearray((tmp_path / HEAD).read_bytes())
    body = struct.pack("<20sIq", b"trackd journal head\0", 1, 1)
    data[:256] = (body + struct.pack("<I", crc32(body))).ljust(256, b"\0")
    (tmp_path / HEAD).write_bytes(data)
    assert check(tmp_path).whole
    again = open_database(tmp_path)
    assert contents(again) == expected
    assert not again._holes
    append_all(again, [[frame("cam", 5)]])
    last, found = restart(again, tmp_path / "killed")
    assert seqs(found) == list(range(6))
    last.close()
    again.close()


def test_a_full_disk_at_the_creation_of_a_segment_is_an_error_and_frames_are_written_to_sqlite(tmp_path, monkeypatch):
    database = open_database(tmp_path)
    database.write([opened("cam")])

    def truncate(fd: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segments.os, "truncate", truncate)
    with pytest.raises(OSError, match="No space"):
        database.prepare_log()
    assert segment_paths(tmp_path) == {}
    assert not database.append([frame("cam", 0)])
    database.write([frame("cam", 0)])
    assert seqs(contents(database)) == [0]
    database.close()
