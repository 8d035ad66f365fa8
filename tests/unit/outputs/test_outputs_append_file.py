"""Files that grow: they hold whole pieces only, and are written again when they are removed."""

import os
import resource
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from output_records import info, record

from trackd.output_formats import WRITERS
from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.files.part import is_abandoned, read_records
from trackd.outputs.writer import open_writer, writer_class


@contextmanager
def no_file_grows_beyond(nbytes):
    """Limit the size of files: a write beyond it fails in part (EFBIG), as on a full disk (ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def part_of(kind):
    return writer_class(kind).part_of(Path(), "cells")


def n_bytes(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_piece_that_did_not_fit_leaves_nothing_and_can_be_appended_again(tmp_path):
    file = AppendFile(tmp_path / "a", b"head\n")
    file.append(b"first\n")
    with no_file_grows_beyond(13), pytest.raises(OSError, match="too large"):
        file.append(b"second\n")
    assert file.path.read_bytes() == b"head\nfirst\n"
    file.append(b"second\n")
    file.close()
    assert file.path.read_bytes() == b"head\nfirst\nsecond\n"


def test_a_file_whose_head_does_not_fit_does_not_exist(tmp_path):
    with no_file_grows_beyond(2), pytest.raises(OSError, match="too large"):
        AppendFile(tmp_path / "a", b"head\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["removed", "its folder removed", "another in its place"])
def test_a_file_that_was_removed_is_written_again_with_all_its_pieces(tmp_path, how):
    folder = tmp_path / "results"
    folder.mkdir()
    file = AppendFile(folder / "a.txt", b"head\n")
    file.append(b"first\n")
    if how == "its folder removed":
        shutil.rmtree(folder)
    else:
        file.path.unlink()
    if how == "another in its place":
        file.path.write_bytes(b"somebody else's")
    file.append(b"second\n")
    file.close()
    assert file.path.read_bytes() == b"head\nfirst\nsecond\n"
    if how == "another in its place":
        assert (folder / "a.1.txt").read_bytes() == b"somebody else's"


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "ctc"])
def test_a_record_that_did_not_fit_is_in_the_file_after_a_repeated_write(kind, tmp_path):
    undisturbed = open_writer(kind, tmp_path / "undisturbed", info())
    disturbed = open_writer(kind, tmp_path / "disturbed", info())
    for i in range(12):
        undisturbed.write(record(i, [0, 1]))
        open_file = next(p for p in disturbed.path.parent.iterdir() if p.name.startswith(disturbed.path.name))
        with no_file_grows_beyond(open_file.stat().st_size + 4 * i), pytest.raises(OSError, match="too large"):
            disturbed.write(record(i, [0, 1]))
        if i == 6:
            shutil.rmtree(disturbed.path.parent)
        disturbed.write(record(i, [0, 1]))
    part = disturbed.path.with_name(disturbed.path.name + ".part")
    if part.exists():
        assert [r.frame_index for r in read_records(part)] == list(range(12))
    undisturbed.close()
    disturbed.close()
    assert names(disturbed.path.parent) == [disturbed.path.name]
    if part_of(kind) is not None:  # their records are compared above; their bytes contain the time of writing
        assert abs(n_bytes(disturbed.path) - n_bytes(undisturbed.path)) < 200
    else:
        assert disturbed.path.read_bytes() == undisturbed.path.read_bytes()


def test_a_label_image_folder_survives_a_full_disk_and_its_removal_is_logged_with_the_lost_frames(tmp_path, caplog):
    writer = open_writer("ctc", tmp_path, info())
    writer.write(record(0, [0, 1]))
    image = tmp_path / "cells_RES.part" / "mask000.tif"
    whole = image.read_bytes()
    with no_file_grows_beyond(10), pytest.raises(OSError, match="too large"):
        writer.write(record(1, [0, 1]))
    assert names(image.parent) == ["mask000.tif", "tracks.part"]
    assert image.read_bytes() == whole
    writer.write(record(1, [0, 1]))
    shutil.rmtree(image.parent)
    writer.write(record(2, [0, 1]))
    writer.close()
    assert "was removed with the frames before frame_index=2" in caplog.text
    assert names(writer.path) == ["mask002.tif", "res_track.txt"]
    assert (writer.path / "res_track.txt").read_text() == "1 2 2 0\n2 2 2 0\n"


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "ctc" and part_of(kind) is not None])
def test_a_file_that_cannot_be_finished_leaves_its_part_and_nothing_else(kind, tmp_path):
    writer = open_writer(kind, tmp_path, info())
    for i in range(20):
        writer.write(record(i, [0, 1]))
    with no_file_grows_beyond(100), pytest.raises(OSError, match="too large"):
        writer.close()
    assert names(tmp_path) == [part_of(kind).name]
    again = open_writer(kind, tmp_path, info())
    again.write(record(0, [0]))
    again.close()
    assert names(tmp_path) == sorted([writer.path.name, f"{writer.path.stem}.1{writer.path.suffix}"])


def test_a_closed_file_can_be_opened_again_while_a_process_is_being_started(tmp_path):
    file = AppendFile(tmp_path / "a", b"head\n")
    child = os.fork()  # until it runs another program, a new process has copies of all handles
    if child == 0:
        time.sleep(5)
        os._exit(0)
    try:
        end = file.end
        file.close()
        AppendFile(tmp_path / "a", start=end).close()
        assert is_abandoned(tmp_path / "a")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
