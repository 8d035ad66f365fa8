"""Files of a stream in which an id ends, and is restored later: it is one track with a gap in every format."""

from __future__ import annotations

import json

import numpy as np
import pytest
from output_records import info, record, written

from trackd.output_formats import WRITERS
from trackd_client.detections import Skeleton
from trackd_client.recordings.limits import DEFAULT_LIMITS
from trackd_client.recordings.sleap_labels import read_labels
from trackd_client.recordings.written.written_files import written_format

IDS = [[0, 1], [2, 1], [2, 1], [0, 1]]  # 0 is ended before frame 1, and goes on as 2; the undo gives it 0 again
UNDO = {
    "number": 2, "action": "undo", "author": "", "t_ns": 5, "tracks": [0], "undoes": 1, "restored": 0, "replaced": 2,
}  # fmt: skip


def write(kind, folder, **stream):
    records = [
        record(
            index, ids, keypoints=np.array([[[9.0, 9], [9, 4]], [[19, 9], [19, 4]]], np.float32),
            masks=np.repeat(np.arange(3, dtype=np.uint16), 20)[None].repeat(40, 0),
            names={0: "Ann"} if 0 in ids else {}, corrections=(UNDO,) if index == 3 else (),
        )
        for index, ids in enumerate(IDS)
    ]  # fmt: skip
    return written(kind, folder, info(skeleton=Skeleton(("a", "b"), ((0, 1),)), **stream), *records)


@pytest.mark.parametrize("kind", sorted(set(WRITERS) - {"slp", "mot", "ctc", "trackmate"}))
def test_a_file_that_is_read_again_has_the_id_before_and_after(kind, tmp_path):
    for package in (WRITERS[kind].package or "").split():
        pytest.importorskip(package)
    path = write(kind, tmp_path)
    found = written_format(path).read(path, DEFAULT_LIMITS)
    ids = [sorted(found.at(place).gt_ids.tolist()) for place in range(4)]
    assert ids == [sorted(each) for each in IDS]
    if "names" not in WRITERS[kind].lacks:
        assert found.names[0] == "Ann"
    if "corrections" not in WRITERS[kind].lacks:
        assert found.corrections == {3: [UNDO]}


def test_slp_has_one_track_of_the_name(tmp_path):
    labels = read_labels(write("slp", tmp_path))
    names = [[labels.tracks[track] for track in labels.at(index).gt_ids.tolist()] for index in range(4)]
    assert names == [["Ann", "1"], ["2", "1"], ["2", "1"], ["Ann", "1"]]


def test_mot_and_trackmate_have_the_id_of_each_moment(tmp_path):
    mot = [line.split(",")[:2] for line in write("mot", tmp_path).read_text().splitlines()]
    by_frame = {frame: [int(track) for at, track in mot if at == frame] for frame, _ in mot}
    first = min(by_frame["1"])  # ids begin at 0 or 1
    assert [[track - first for track in tracks] for tracks in by_frame.values()] == IDS
    spots = write("trackmate", tmp_path).read_text(encoding="utf-8").splitlines()[4:]
    labels = [line.split(",")[3] for line in spots]
    assert labels == ["Ann", "Track_1", "Track_2", "Track_1", "Track_2", "Track_1", "Ann", "Track_1"]


def test_ctc_has_a_tracklet_for_each_part_of_the_track(tmp_path):
    folder = write("ctc", tmp_path)
    rows = [list(map(int, line.split())) for line in (folder / "res_track.txt").read_text().splitlines()]
    assert rows == [[1, 0, 0, 0], [2, 0, 3, 0], [3, 1, 2, 0], [4, 3, 3, 1]]


def test_jsonl_states_the_restored_id_in_the_correction(tmp_path):
    lines = [json.loads(line) for line in write("jsonl", tmp_path).read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["corrections"] == [UNDO]
