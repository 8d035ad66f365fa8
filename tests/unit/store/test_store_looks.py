"""The looks of streams in the state folder: replaced as a whole, deleted with their streams, written by one thread."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future

import numpy as np
import pytest

from trackd.identity.arrays import Arrays
from trackd.identity.looks import MAX_BYTES, Looks
from trackd.store.looks_folder import LooksFolder
from trackd.store.looks_writer import LooksWriter, PendingLooks


def looks(stream: str = "cam", seq: int = 5, epoch: int = 1, size: int = 3) -> Looks:
    return Looks(stream, epoch, seq, None, 0, {"a": np.arange(float(size))})


def pending(stream: str = "cam", seq: int = 5, arrays: Arrays | Exception | None = None) -> PendingLooks:
    made: Future[Arrays | None] = Future()
    if isinstance(arrays, Exception):
        made.set_exception(arrays)
    else:
        made.set_result(arrays)
    return PendingLooks(stream, 1, seq, None, 0, made)


def run(writer: LooksWriter) -> None:
    """Let it do all its jobs."""
    writer.stop()
    writer.run()


def test_looks_belong_to_one_stream_and_one_epoch(tmp_path, caplog):
    folder = LooksFolder(tmp_path)
    assert folder.read("cam", 1) is None
    folder.write(looks())
    found = folder.read("cam", 1)
    assert found is not None
    assert found.seq == 5
    assert folder.read("cam", 2) is None
    assert not caplog.records
    (folder.path / "cam.looks").rename(folder.path / "other.looks")
    assert folder.read("other", 1) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"stream=other: the looks of its animals are learnt anew: {folder.path / 'other.looks'} cannot be used: it is "
        "of stream 'cam'"
    ]


@pytest.mark.parametrize("name", [".", "..", ".cam", "cam.looks", "cam.looks.part", "a" * 128])
def test_streams_of_any_name_have_files_of_their_own(tmp_path, name):
    folder = LooksFolder(tmp_path)
    folder.write(looks("cam", 1))
    folder.write(looks(name, 2))
    folder.keep_only({"cam", name})
    assert [getattr(folder.read(each, 1), "seq", None) for each in ("cam", name)] == [1, 2]
    folder.remove(name)
    folder.remove(name)
    assert [getattr(folder.read(each, 1), "seq", None) for each in ("cam", name)] == [1, None]
    assert list(tmp_path.iterdir()) == [folder.path]


def test_what_cannot_be_written_leaves_the_file_before_it(tmp_path):
    folder = LooksFolder(tmp_path)
    folder.write(looks(seq=1))
    with pytest.raises(ValueError, match="at most"):
        folder.write(looks(seq=2, size=MAX_BYTES))
    found = folder.read("cam", 1)
    assert found is not None
    assert found.seq == 1


@pytest.mark.parametrize(("label", "seq"), [("before_looks", 1), ("after_looks", 2)])
def test_a_kill_while_looks_are_replaced_leaves_the_old_or_the_new_file(tmp_path, label, seq):
    code = (
        "import sys, numpy, pathlib; from trackd.identity.looks import Looks\n"
        "from trackd.store.looks_folder import LooksFolder; folder = LooksFolder(pathlib.Path(sys.argv[1]))\n"
        "for seq in (1, 2): folder.write(Looks('cam', 1, seq, None, 0, {'a': numpy.arange(9.0)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False, capture_output=True,
        env={**os.environ, "TRACKD_CRASH_AT": f"{label}:2"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    found = LooksFolder(tmp_path).read("cam", 1)
    assert found is not None
    assert found.seq == seq


def test_the_writer_writes_and_deletes_in_order(tmp_path):
    writer = LooksWriter(LooksFolder(tmp_path))
    writer.put(pending("one", 1, {"a": np.zeros(2)}))
    writer.put(pending("two", 2, {"a": np.zeros(2)}))
    writer.remove("one")
    writer.put(pending("nothing learnt", 3, None))
    run(writer)
    assert [path.name for path in writer.folder.path.iterdir()] == ["two.looks"]


def test_looks_that_later_ones_have_replaced_are_not_written(tmp_path):
    writer = LooksWriter(LooksFolder(tmp_path))
    first = pending(seq=1, arrays={"a": np.zeros(2)})
    writer.put(first)
    first.arrays = None
    run(writer)
    assert writer.folder.read("cam", 1) is None


def test_the_writer_waits_for_the_thread_that_learns_and_survives_its_error(tmp_path, caplog):
    writer = LooksWriter(LooksFolder(tmp_path))
    writer.put(pending("bad", 1, RuntimeError("no")))
    made: Future[Arrays | None] = Future()
    writer.put(PendingLooks("cam", 1, 2, None, 0, made))
    thread = threading.Thread(target=writer.run)
    thread.start()
    made.set_result({"a": np.zeros(2)})
    writer.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert writer.folder.read("cam", 1) is not None
    assert [record.getMessage() for record in caplog.records] == [
        "stream=bad seq=1: the looks of its animals cannot be made: no"
    ]


def test_a_disk_that_cannot_be_written_is_reported_once_and_again_when_it_can(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    folder = LooksFolder(tmp_path)
    folder.path.write_bytes(b"")  # a file is in the way
    writer = LooksWriter(folder)
    for seq in range(3):
        writer.put(pending(seq=seq, arrays={"a": np.zeros(2)}))
    run(writer)
    folder.path.unlink()
    writer.put(pending(seq=9, arrays={"a": np.zeros(2)}))
    run(writer)
    first, second = (record.getMessage() for record in caplog.records)
    assert "cannot be written; a restart learns them anew" in first
    assert "can be written again" in second
    found = folder.read("cam", 1)
    assert found is not None
    assert found.seq == 9
