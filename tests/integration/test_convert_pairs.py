"""Every format converted into every other: what the table of docs/formats.md says that both hold is equal."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from trackd.commands.convert import convert
from trackd.output_formats import WRITERS
from trackd.outputs.recorded import records_of
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import open_writer
from trackd_client.detections import Skeleton
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.written.written_recording import WrittenRecording

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
OUT = {"slp": "new.slp", "mot": "new.txt", "ctc": "new_RES", "csv": "new.csv", "parquet": "new.parquet",
       "jsonl": "new.jsonl", "trackmate": "new_spots.csv", "h5": "new.h5", "nwb": "new.nwb",
       "dlc": "newDLC_trackd.csv", "coco": "new.coco.json", "geff": "new.geff", "movement": "new.nc"}  # fmt: skip
# The columns of the table, by the names of `OutputFormat.lacks`.
COLUMNS = {"names": "names", "capture times": "times", "scores": "scores", "keypoints": "keypoints", "boxes": "boxes",
           "masks": "masks", "lineage": "lineage", "corrections": "corrections",
           "untracked instances": "untracked"}  # fmt: skip
# Track 4 is away in frame 2; 5 divides into 6 and 7; an instance of frame 1 has no track; frame 3 is empty.
IDS = {0: [4, 5], 1: [5, 4, -1], 2: [5], 3: [], 4: [4, 6, 7], 6: [7, 4, 6]}
NAMES = {4: "Mäuschen; =1+1", 7: "仓鼠 (7)"}
CORRECTIONS = ({"number": 1, "action": "rename", "author": "Ünal", "t_ns": 5, "tracks": [4], "name": NAMES[4]},)
STREAM = StreamInfo("cells", Skeleton(("nose", "tail"), ((0, 1),)), None, (80, 120), None)
START_NS = 1_790_000_000_123_456_789
# TrackMate's quality has no fixed range, so it is not read as a score. DeepLabCut scores nodes, not instances.
NO_INSTANCE_SCORE = ("trackmate", "dlc")


def frame(index: int) -> OutputRecord:
    ids = IDS[index]
    n = len(ids)
    low = np.array([[20.0 * (track - 3 if track >= 0 else 5) + index, 30.0 + 2 * index] for track in ids]).reshape(n, 2)
    points = np.stack([low, low + np.array([10, 12])], axis=1)
    return OutputRecord(
        index,
        START_NS + index * 33_366_701 + 7 * (index % 2),
        np.array(ids, np.int32),
        np.full(n, 0.75, np.float32),
        np.concatenate([low, low + np.array([10, 12])], axis=1).astype(np.float32),
        keypoints=points,
        keypoint_scores=np.full((n, 2), 0.5),
        scores=np.array([0.5 + track / 100 for track in ids], np.float32),
        parents={6: 5, 7: 5} if index == 4 else {},
        names={track: name for track, name in NAMES.items() if track in ids},
        corrections=CORRECTIONS if index == 4 else (),
    )


FRAMES = [frame(index) for index in IDS]


def table_of_the_page() -> dict[str, set[str]]:
    """What each format holds, by the page: a cell that begins with `no` means that it does not."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    start = next(place for place, row in enumerate(rows) if row.startswith("| name |"))
    head = [cell.strip() for cell in rows[start].strip("|").split("|")]
    holds: dict[str, set[str]] = {}
    for row in rows[start + 1 :]:
        cells = dict(zip(head, (cell.strip() for cell in row.strip("|").split("|")), strict=False))
        kinds = re.findall(r"`(\w+)`", cells["name"])
        if len(cells) != len(head) or not set(kinds) <= WRITERS.keys():
            break
        for kind in kinds:
            holds[kind] = {noun for column, noun in COLUMNS.items() if not re.match(r"no\b", cells[column])}
    return holds


HOLDS = table_of_the_page()


class Contents(NamedTuple):
    """What is read of a file. Tracks are keyed by what the format identifies them with."""

    tracks: dict[int, dict[str, int]]  # by frame: track -> the row of the record
    records: dict[int, OutputRecord]
    times: dict[int, int] | None
    names: dict[str, str]
    parents: dict[str, str]
    corrections: list[object]


def contents(records: list[OutputRecord], *, by_name: str | None = None, timed: bool = True) -> Contents:
    """Of records; `by_name` is the name of a track without one, where tracks are identified by their names."""
    names = {track: name for record in records for track, name in record.names.items()}

    def key(track: int) -> str:
        return str(track) if by_name is None else names.get(track) or by_name.format(track)

    return Contents(
        {
            record.frame_index: {key(track): row for row, track in enumerate(record.track_ids.tolist()) if track >= 0}
            for record in records
        },
        {record.frame_index: record for record in records},
        {record.frame_index: record.t_ns for record in records} if timed else None,
        {key(track): name for track, name in names.items()},
        {key(child): key(parent) for record in records for child, parent in record.parents.items()},
        [correction for record in records for correction in record.corrections],
    )


def read(path: Path) -> tuple[list[OutputRecord], bool]:
    (recording,) = open_recordings(TestDataset(**dataset_of(path), chunk=False), DataloaderConfig(), Path())
    timed = isinstance(recording, WrittenRecording) and recording.has_times
    return [record for _, record in records_of(recording, TestDataset(crop_size=8))], timed


# The name that a track without a name has in files which identify tracks by their names.
PLAIN = {"slp": "{}", "dlc": "track_{}"}


def check(kinds: tuple[str, ...], given: list[OutputRecord], path: Path, *, timed: bool) -> None:
    """Compare what is read of a file with the records that it was made of, as far as all the formats hold it."""
    holds = set.intersection(*(HOLDS[kind] for kind in kinds))
    records, has_times = read(path)
    plain = PLAIN.get(kinds[-1])
    wanted, found = contents(given, by_name=plain), contents(records, by_name=plain, timed=has_times)
    context = " → ".join(kinds)
    assert {index: set(rows) for index, rows in wanted.tracks.items() if rows} == {
        index: set(rows) for index, rows in found.tracks.items() if rows
    }, context
    assert found.names == (wanted.names if "names" in holds else {}) or plain, context
    assert found.parents == (wanted.parents if "lineage" in holds else {}), context
    assert found.corrections == (wanted.corrections if "corrections" in holds else []), context
    assert has_times == ("times" in HOLDS[kinds[-1]]), context
    if has_times and timed:
        assert found.times.items() <= wanted.times.items(), context
        assert {index for index, rows in wanted.tracks.items() if rows} <= found.times.keys(), context
    for index, rows in found.tracks.items():
        before, after = wanted.records.get(index), found.records[index]
        if before is None:  # an empty frame that an earlier format has not kept
            assert not rows, context
            continue
        n_untracked = int((before.track_ids < 0).sum()) if "untracked" in holds else 0
        assert int((after.track_ids < 0).sum()) == n_untracked, (context, index)
        for track, row in rows.items():
            check_instance(holds, kinds, (before, wanted.tracks[index][track]), (after, row), f"{context}: {index}")


def check_instance(holds, kinds, one, other, context):
    (before, row), (after, found) = one, other
    tolerance = 1.1 if "ctc" in kinds else 1e-4  # label images hold whole pixels
    place = (before.boxes[row, :2] + before.boxes[row, 2:]) / 2
    np.testing.assert_allclose(
        (after.boxes[found, :2] + after.boxes[found, 2:]) / 2, place, atol=tolerance, err_msg=context
    )
    if "boxes" in holds:
        np.testing.assert_allclose(after.boxes[found], before.boxes[row], atol=2 * tolerance, err_msg=context)
    if "keypoints" in holds and before.keypoints is not None:
        np.testing.assert_array_equal(after.keypoints[found], before.keypoints[row], err_msg=context)
    if "scores" in holds and not set(kinds) & set(NO_INSTANCE_SCORE) and before.scores is not None:
        assert after.scores[found] == pytest.approx(before.scores[row], abs=1e-6), context


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    paths = {}
    for kind, name in OUT.items():
        (folder / kind).mkdir()
        with open_writer(kind, folder / kind, replace(STREAM, name=Path(name).name.partition(".")[0][:3])) as writer:
            for record in FRAMES:
                writer.write(record)
        paths[kind] = writer.path
    return paths


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Images that give the size of the frames, where a format does not note it."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (120, 80))
    for _ in range(8):
        writer.write(np.zeros((80, 120, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("kind", OUT)
def test_a_written_file_is_read_back_with_all_that_the_table_names(kind, sources):
    check((kind,), FRAMES, sources[kind], timed=True)


@pytest.mark.parametrize("to", OUT)
def test_every_format_becomes_this_one_with_all_that_both_hold(to, sources, video, tmp_path):
    for kind, source in sources.items():
        given, timed = read(source)
        folder = tmp_path / kind
        folder.mkdir()
        needs_video = to == "ctc" and kind in ("mot", "csv", "parquet", "dlc", "movement", "trackmate")
        (done,) = convert(source, folder / OUT[to], video=video if needs_video else None, crop_size=8)
        check((kind, to), given, done.path, timed=timed)
        named = " ".join(done.notes)
        lost = HOLDS[kind] - HOLDS[to]
        for noun, word in {"names": "names", "lineage": "parents", "times": "capture times", "masks": "masks",
                           "corrections": "corrections", "keypoints": "keypoints"}.items():  # fmt: skip
            assert (f"{word} (" in named) == (noun in lost), (kind, to, named)


def test_the_frames_of_the_test_have_a_gap_an_empty_frame_and_uneven_times():
    times = [record.t_ns for record in FRAMES]
    assert len({b - a for a, b in pairwise(times)}) > 1
    assert any(not len(record.track_ids) for record in FRAMES)
