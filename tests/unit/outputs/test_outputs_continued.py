"""Files that are continued from a position: they are those of a writer that was never interrupted."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from output_records import info, record

from trackd.output_formats import WRITERS
from trackd.outputs.files.append_file import LostFileError
from trackd.outputs.files.part import SUFFIX, read_records
from trackd.outputs.label_runs import pack_labels, unpack_labels
from trackd.outputs.positions import Positions, StoredFile, StoredFiles
from trackd.outputs.recover import recover
from trackd.outputs.writer import open_writer, writer_class

N_FRAMES = 12
# The formats that can only be written whole, by `WholeFileWriter`.
WHOLE = [kind for kind in WRITERS if kind != "ctc" and writer_class(kind).part_of(Path(), "cells") is not None]


def frame(index: int, first_instance: int = 3):
    """Frame `index`; the first ones are empty, and show no nodes."""
    if index < first_instance:
        return record(index, [])
    points = np.full((2, 2, 2), index, np.float32)
    return record(index, [0, 1], keypoints=points, scores=np.array([0.5, 0.25], np.float32))


def content(path: Path):
    """What a finished file, or the part of one, holds."""
    if path.is_dir():
        return {each.name: tifffile.imread(each).tobytes() if each.suffix == ".tif" else each.read_text()
                for each in sorted(path.iterdir())}  # fmt: skip
    part = path.with_name(path.name + SUFFIX)
    if part.exists():
        return [(found.frame_index, found.t_ns, found.track_ids.tolist(), found.boxes.tobytes())
                for found in read_records(part)]  # fmt: skip
    return path.read_bytes()


def finished(writer):
    """The content of a writer's file at its end; an .slp and a .parquet contain the time, so their part is read."""
    if writer.part_of(writer.path.parent, "cells") is None or writer.path.name.endswith("_RES"):
        writer.close()
    return content(writer.path)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("first_instance", [0, 5])
@pytest.mark.parametrize("kept", [0, 4, 7])
def test_a_file_that_is_continued_is_that_of_an_uninterrupted_writer(kind, first_instance, kept, tmp_path):
    whole = open_writer(kind, tmp_path / "whole", info())
    for index in range(N_FRAMES):
        whole.write(frame(index, first_instance))
    writer = open_writer(kind, tmp_path / "cut", info())
    for index in range(kept):
        writer.write(frame(index, first_instance))
    position = writer.position()
    for index in range(kept, 9):  # written after the position was stored, and written again
        writer.write(frame(index, first_instance))
    writer.park()
    continued = open_writer(kind, tmp_path / "cut", info(), position)
    for index in range(kept, N_FRAMES):
        continued.write(frame(index, first_instance))
    assert finished(continued) == finished(whole)
    assert len(list((tmp_path / "cut").iterdir())) == 1


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_position_begins_the_file_also_where_it_does_not_exist(kind, tmp_path):
    writer = open_writer(kind, tmp_path, info(), {})
    writer.write(frame(5))
    other = open_writer(kind, tmp_path / "new", info())
    other.write(frame(5))
    assert finished(writer) == finished(other)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("how", ["removed", "cut", "replaced"])
def test_a_file_that_is_not_as_it_was_left_is_not_continued(kind, how, tmp_path):
    writer = open_writer(kind, tmp_path, info())
    for index in range(6):
        writer.write(frame(index))
    position = writer.position()
    writer.park()
    (path,) = tmp_path.iterdir()
    if path.is_dir() and how != "removed":
        path = path / "tracks.part"
    if how == "removed":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.write_bytes(bytes(2 * path.stat().st_size))
    with pytest.raises(LostFileError, match=r"is missing|is not as it was left"):
        open_writer(kind, tmp_path, info(), position)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_part_whose_finished_file_has_its_name_already_is_only_deleted(kind, tmp_path, monkeypatch):
    writer = open_writer(kind, tmp_path, info())
    writer.write(frame(5))
    part = writer_class(kind).part_of(tmp_path, "cells")
    monkeypatch.setattr("trackd.outputs.files.part.PartFile.remove", lambda self: self.close())  # killed before it
    writer.close()
    monkeypatch.undo()
    assert part.exists()
    before = writer.path.stat()
    assert recover(tmp_path) == [writer.path]
    assert list(tmp_path.iterdir()) == [writer.path]
    assert writer.path.stat()[:9] == before[:9]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_part_that_was_marked_before_its_file_got_its_name_is_finished_again(kind, tmp_path, monkeypatch):
    writer = open_writer(kind, tmp_path, info())
    writer.write(frame(5))

    replace = Path.replace

    def killed(self, target):
        if target == writer.path:
            raise KeyboardInterrupt
        return replace(self, target)  # zarr writes its own files so

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    monkeypatch.undo()
    assert [found.frame_index for found in read_records(writer_class(kind).part_of(tmp_path, "cells"))] == [5]
    assert recover(tmp_path) == [writer.path]
    assert list(tmp_path.iterdir()) == [writer.path]


def test_a_result_folder_loses_the_list_of_frames_that_a_kill_has_left_in_it(tmp_path):
    writer = open_writer("ctc", tmp_path, info())
    writer.write(frame(5))
    writer.close()
    (writer.path / "tracks.part").write_text("5 0 1\n")
    writer_class("ctc").set_aside(tmp_path, "cells")
    assert sorted(path.name for path in writer.path.iterdir()) == ["mask005.tif", "res_track.txt"]


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_a_label_image_is_the_same_after_the_journal(noise, dtype):
    labels = np.zeros((40, 60), dtype)
    labels[5:20, 10:30], labels[39, 59] = 1, 7
    if noise:
        labels = np.random.default_rng(0).integers(0, 999, (40, 60)).astype(dtype)
    packed = pack_labels(labels)
    assert ("pixels" in packed) == noise
    found = unpack_labels(packed)
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == labels.dtype


def test_positions_are_read_as_they_were_stored_and_damaged_ones_are_not_used(tmp_path, caplog):
    positions = Positions(tmp_path)
    stored = StoredFiles(7, {"mot": StoredFile(5, {"bytes": 9, "tail": 3}), "csv": StoredFile(4, {"nodes": None})})
    assert positions.get("cam", 7) is None
    positions.save("cam", stored)
    assert positions.get("cam", 7) == stored
    assert positions.get("cam", 8) is None
    assert stored.seq == 4
    assert dict(positions.streams()) == {"cam": stored}
    path = tmp_path / "outputs" / "cam.position"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert positions.get("cam", 7) is None
    assert "cam.position cannot be used: its checksum does not match" in caplog.text
    positions.remove("cam")
    assert list(positions.streams()) == []


def test_positions_are_all_written_again_where_their_folder_was_removed_and_not_without_the_state_folder(tmp_path):
    positions = Positions(tmp_path / "state")
    with pytest.raises(FileNotFoundError):
        positions.save("cam", StoredFiles(7))
    (tmp_path / "state").mkdir()
    positions.save("cam", StoredFiles(7))
    shutil.rmtree(tmp_path / "state" / "outputs")
    positions.save("other", StoredFiles(8))
    assert dict(positions.streams()) == {"cam": StoredFiles(7), "other": StoredFiles(8)}
