"""The journal's file: bounded in bytes, constant over streams that open and close, and present for a restart."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from trackd.store.database import Database
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, SnapshotRecord
from trackd_client.configuration import ConfigError

MB = 1024 * 1024
HISTORY = 1000


def opened(stream, **stream_settings):
    return OpenRecord(stream, 1, 0, {"settings": {"stream": stream_settings}})


def frame(stream, seq, nbytes=1000):
    return FrameRecord(stream, 1, seq, seq, seq, "tracked", None, {"boxes": np.full(nbytes, seq % 256, np.uint8)})


def snapshot(stream, seq, nbytes=1000):
    return SnapshotRecord(stream, 1, seq, {"boxes": np.zeros(nbytes, np.uint8)})


def seqs(database):
    return {stored.opened.stream: [record.seq for record in stored.frames] for stored in database.streams()}


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "journal.sqlite", False, 4 * MB, HISTORY)
    yield database
    database.close()


def grow(database, streams, first, n, nbytes, every=20):
    """Write frames one batch each, with a snapshot after each `every` frames; return the largest size of the file."""
    largest = 0
    for seq in range(first, first + n):
        for stream in streams:
            database.write([frame(stream, seq, nbytes)])
            if seq % every == every - 1:
                database.write([snapshot(stream, seq)])
        if seq % 50 == 0:
            database.fold()
        largest = max(largest, database.path.stat().st_size)
    return largest


def test_the_file_stays_within_its_bound_and_the_oldest_history_is_deleted(database):
    database.write([opened("large")])
    largest = grow(database, ["large"], 0, 400, 100_000)  # 40 MB
    assert 3 * MB < largest < 4.5 * MB
    (kept,) = seqs(database).values()
    assert kept == list(range(kept[0], 400))
    assert kept[0] < 375


def test_a_stream_of_large_frames_does_not_take_the_history_of_a_small_one(database):
    database.write([opened("large"), opened("small")])
    grow(database, ["small"], 0, 200, 500)
    grow(database, ["large"], 0, 200, 100_000)
    kept = seqs(database)
    assert kept["small"] == list(range(200))
    assert 10 < len(kept["large"]) < 42


def test_frames_that_a_restart_replays_stay_also_beyond_the_bound(database):
    database.write([opened("cam"), snapshot("cam", -1)])
    for seq in range(100):
        database.write([frame("cam", seq, 100_000)])
    assert seqs(database)["cam"] == list(range(100))
    database.write([snapshot("cam", 99), frame("cam", 100, 100_000)])
    database.write([frame("cam", 101, 100_000)])
    kept = seqs(database)["cam"]
    assert kept == list(range(kept[0], 102))
    assert len(kept) < 42


def test_the_last_frame_before_a_snapshot_stays_where_history_frames_is_0(database):
    database.write([opened("cam", history_frames=0), *(frame("cam", seq) for seq in range(5)), snapshot("cam", 4)])
    assert seqs(database)["cam"] == [4]


def test_each_stream_keeps_as_much_history_as_its_setting_says(database):
    for stream, wanted in (("none", 0), ("little", 7), ("default", None)):
        database.write([opened(stream, **({} if wanted is None else {"history_frames": wanted}))])
        database.write([*(frame(stream, seq, 10) for seq in range(1500)), snapshot(stream, 1499)])
    assert {stream: len(kept) for stream, kept in seqs(database).items()} == {
        "none": 1,
        "little": 7,
        "default": HISTORY,
    }


def test_two_thousand_streams_that_were_opened_and_closed_do_not_let_the_file_grow(database):
    sizes = []
    for number in range(2000):
        stream = f"cam{number}"
        database.write([opened(stream), *(frame(stream, seq, 2000) for seq in range(20)), snapshot(stream, 19)])
        database.write([CloseRecord(stream)])
        if number % 100 == 99:
            database.fold()
            sizes.append(database.path.stat().st_size)
    assert sizes[-1] <= sizes[0] < 200_000
    assert seqs(database) == {}


def test_a_batch_that_fails_changes_nothing(database):
    database.write([opened("cam"), *(frame("cam", seq, 100_000) for seq in range(30)), snapshot("cam", 29)])
    most = database._file.db.execute("PRAGMA max_page_count").fetchone()[0]
    pages = database._file.db.execute("PRAGMA page_count").fetchone()[0]
    database._file.db.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            database.write([frame("cam", 30, 5 * MB)])
    assert seqs(database)["cam"] == list(range(30))
    database._file.db.execute(f"PRAGMA max_page_count = {most}")
    database.write([frame("cam", 30, 1000)])
    assert seqs(database)["cam"] == list(range(31))
    assert database._retention._held["cam"].nbytes == pytest.approx(30 * 100_000, rel=0.01)


@pytest.mark.parametrize("missing", ["journal.sqlite", "journal.sqlite-wal", "", "..", "moved"])
def test_a_journal_that_is_moved_or_deleted_is_written_again_with_all_its_contents(tmp_path, missing):
    folder = tmp_path / "above" / "state"
    database = Database(folder / "journal.sqlite", False, 4 * MB, HISTORY)
    database.write([opened("cam"), *(frame("cam", seq) for seq in range(10))])
    database.fold()
    database.write([frame("cam", 10)])  # in the log only
    if missing == "moved":
        (tmp_path / "above").rename(tmp_path / "elsewhere")
    elif missing.startswith("journal"):
        (folder / missing).unlink()
    else:
        shutil.rmtree((folder / missing).resolve())
    database.write([frame("cam", 11)])
    database.write([frame("cam", 12)])
    with pytest.raises(ConfigError, match="used by another daemon"):
        Database(folder / "journal.sqlite", False, 4 * MB, HISTORY)
    database.close()
    again = Database(folder / "journal.sqlite", False, 4 * MB, HISTORY)
    assert seqs(again) == {"cam": list(range(13))}
    again.close()


def test_another_file_at_the_journals_path_is_not_overwritten(tmp_path):
    path = tmp_path / "journal.sqlite"
    database = Database(path, False, 4 * MB, HISTORY)
    database.write([opened("cam"), frame("cam", 0)])
    path.rename(tmp_path / "mine")
    path.write_text("another file")
    with pytest.raises(OSError, match="another file is in its place"):
        database.write([frame("cam", 1)])
    assert path.read_text() == "another file"
    path.unlink()
    (tmp_path / "mine").rename(path)
    database.write([frame("cam", 1)])
    assert seqs(database) == {"cam": [0, 1]}
    database.close()


def test_a_second_daemon_cannot_use_the_same_folder(tmp_path):
    database = Database(tmp_path / "journal.sqlite", False, 4 * MB, HISTORY)
    with pytest.raises(ConfigError, match=r"daemon.state_dir: .* is used by another daemon"):
        Database(tmp_path / "journal.sqlite", False, 4 * MB, HISTORY)
    database.close()
    Database(tmp_path / "journal.sqlite", False, 4 * MB, HISTORY).close()


def test_the_frames_of_one_moment_are_neighbours_in_the_table(database):
    """A commit writes whole pages into the log. One page for each stream would be most of its cost."""
    names = [f"cam{number}" for number in range(8)]
    database.write([opened(name) for name in names])
    for seq in range(100):
        database.write([frame(name, seq, 100) for name in names])
    log = Path(f"{database.path}-wal")
    database.fold()
    before = log.stat().st_size
    for seq in range(100, 120):
        database.write([frame(name, seq, 100) for name in names])
    page = database._file.db.execute("PRAGMA page_size").fetchone()[0]
    assert (log.stat().st_size - before) / 20 / page < 6  # with rows sorted by stream it was 11


def test_streams_of_different_seqs_are_kept_read_and_deleted_independently(database):
    database.write([opened("early", history_frames=10), opened("late"), opened("other")])
    database.write([frame("late", seq) for seq in range(5000, 5100)])
    database.write([frame("early", seq) for seq in range(100)])
    database.write([frame("other", seq) for seq in (3, 4, 90)])  # with holes
    database.write([snapshot("early", 99)])
    for _ in range(50):  # trimmed a few at a time
        database.write([frame("late", database._retention.seqs("late").stop)])
    late = list(range(5000, 5150))
    assert seqs(database) == {"early": list(range(90, 100)), "late": late, "other": [3, 4, 90]}
    database.write([CloseRecord("other")])
    database.write([CloseRecord("early")])
    assert seqs(database) == {"late": late}
    assert database._file.db.execute("SELECT count(*) FROM frames").fetchone()[0] == len(late)


def test_a_journal_of_version_1_is_converted_to_this_version(tmp_path, caplog):
    path = Path(tmp_path / "journal.sqlite")
    before = Database(path, False, 4 * MB, HISTORY)
    before.write([opened("cam"), *(frame("cam", seq) for seq in range(100)), snapshot("cam", 99)])
    before.close()
    with sqlite3.connect(path) as file:  # the schema of version 1
        file.executescript("""
            BEGIN;
            CREATE TABLE as_it_was (
                stream TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, frame_index INTEGER NOT NULL,
                t_ns INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, body BLOB NOT NULL,
                PRIMARY KEY (stream, seq)
            ) WITHOUT ROWID;
            INSERT INTO as_it_was SELECT stream, seq, epoch, frame_index, t_ns, status, reason, body FROM frames;
            DROP TABLE frames;
            ALTER TABLE as_it_was RENAME TO frames;
            ALTER TABLE streams DROP COLUMN revision;
            ALTER TABLE streams DROP COLUMN checksum;
            ALTER TABLE snapshots DROP COLUMN link;
            ALTER TABLE snapshots DROP COLUMN checksum;
            DROP TABLE numbers;
            PRAGMA user_version = 1;
            COMMIT;
        """)
    file.close()
    path.with_name("journal.head").unlink()
    with caplog.at_level("WARNING"):
        after = Database(path, False, 4 * MB, HISTORY)
    assert "of version 1; it is converted to version 3" in caplog.text
    after.write([frame("cam", 100)])
    (stored,) = after.streams()
    assert stored.hole is None
    assert [record.seq for record in stored.frames] == list(range(101))
    assert all((record.body["boxes"] == record.seq).all() for record in stored.frames)
    plan = after._file.db.execute("EXPLAIN QUERY PLAN SELECT * FROM frames WHERE stream = 'cam' AND seq IN (1, 2)")
    assert "seq=? AND stream=?" in plan.fetchone()[3]
    after.close()
    Database(path, False, 4 * MB, HISTORY).close()  # the conversion is stored


def test_a_journal_of_an_earlier_daemon_is_trimmed_and_continued(tmp_path):
    path = Path(tmp_path / "journal.sqlite")
    first = Database(path, False, 4 * MB, HISTORY)
    first.write([opened("cam"), *(frame("cam", seq, 50_000) for seq in range(100)), snapshot("cam", 99)])
    first.close()
    second = Database(path, False, 1 * MB, HISTORY)
    second.write([frame("cam", 100, 50_000)])
    kept = seqs(second)["cam"]
    assert kept == list(range(kept[0], 101))
    assert len(kept) < 21
    second.close()


def test_frames_that_the_outputs_of_a_stream_have_not_written_stay(tmp_path):
    database = Database(tmp_path / "journal.sqlite", False, MB, 0)
    database.write([opened("cam", history_frames=0, outputs=["mot"]), opened("other", history_frames=0)])
    for seq in range(100):
        database.write([frame("cam", seq, 20_000), frame("other", seq, 20_000)])
        database.write([SnapshotRecord(stream, 1, seq, {}) for stream in ("cam", "other")])
        database.written("cam", min(seq, 60))
    database.close()
    database = Database(tmp_path / "journal.sqlite", False, MB, 0)
    cam, other = database.streams()
    assert [record.seq for record in cam.frames] == list(range(61, 100))
    assert other.frames[0].seq > 90
    database.written("cam", 99)
    for seq in range(100, 130):
        database.write([frame("cam", seq, 20_000), SnapshotRecord("cam", 1, seq, {})])
        database.written("cam", seq)
    assert next(iter(database.streams())).frames[0].seq > 99
    database.close()
