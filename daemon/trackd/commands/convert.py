"""`trackd convert`: tracks from one file format into another."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trackd.output_formats import WRITERS, check_outputs
from trackd.outputs.recorded import records_of, stream_of
from trackd.outputs.records import OutputRecord
from trackd.outputs.writer import open_writer, set_earlier_aside
from trackd_client.configuration import ConfigError, nearest
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.recording import RecordedFrame, Recording
from trackd_client.recordings.written.written_recording import WrittenRecording

logger = logging.getLogger(__name__)

# The first ending that a name has gives its format.
ENDINGS = (
    ("_spots.csv", "trackmate"), ("dlc_trackd.csv", "dlc"), (".coco.json", "coco"), (".json", "coco"), ("_res", "ctc"),
    (".slp", "slp"), (".txt", "mot"), (".csv", "csv"), (".parquet", "parquet"), (".jsonl", "jsonl"), (".h5", "h5"),
    (".nwb", "nwb"), (".geff", "geff"), (".nc", "movement"),
)  # fmt: skip
NOUNS = {
    "boxes": "boxes ({} instances)",
    "keypoints": "keypoints ({} instances)",
    "scores": "scores ({} instances)",
    "masks": "masks ({} frames)",
    "times": "capture times ({} frames)",
    "names": "names ({} tracks)",
    "lineage": "parents ({} tracks)",
    "corrections": "corrections ({})",
    "untracked": "instances without a track ({})",
}


@dataclass(frozen=True, slots=True)
class Converted:
    """What one recording became."""

    path: Path
    frames: int
    tracks: int
    notes: list[str]  # a line each for what the new file does not hold


@dataclass(slots=True)
class Contents:
    """What the records of a recording hold, counted while they are written."""

    frames: int = 0
    tracks: set[int] = field(default_factory=set)
    named: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)  # by the keys of `NOUNS`
    boxless: int = 0  # instances whose box is made of the crop size

    def add(self, frame: RecordedFrame, record: OutputRecord, timed: bool) -> None:
        """Count one frame."""
        n = len(record.track_ids)
        self.frames += 1
        self.named.update(record.names)
        self.tracks.update(record.track_ids[record.track_ids >= 0].tolist())
        boxes, points = frame.detections.boxes, frame.detections.keypoints
        posed = points is not None and points.shape[1] > 1
        self.counts.update(
            boxes=0 if boxes is None else int(np.isfinite(boxes).all(axis=1).sum()),
            keypoints=n if posed else 0,
            scores=0 if record.scores is None else n,
            masks=int(record.masks is not None and n > 0),
            times=int(timed),
            lineage=len(record.parents),
            corrections=len(record.corrections),
            untracked=int((record.track_ids < 0).sum()),
        )
        if boxes is None and points is not None:
            self.boxless += int((np.isfinite(points).all(axis=2).sum(axis=1) == 1).sum())

    def notes(self, kind: str, crop_size: int) -> list[str]:
        """What a file of this format leaves out, in at most two lines."""
        lacks = WRITERS[kind].lacks.split()
        self.counts["names"] = len(self.named)
        left = [noun.format(self.counts[name]) for name, noun in NOUNS.items() if name in lacks and self.counts[name]]
        lines = [f"{kind} holds no {', '.join(left)}: left out"] if left else []
        if self.boxless and "boxes" not in lacks:
            lines.append(
                f"{self.boxless} instances have one node and no box: they get boxes of {crop_size} × {crop_size} "
                "pixels (--crop-size)"
            )
        return lines


def convert(
    source: Path,
    target: Path,
    *,
    from_kind: str | None = None,
    to_kind: str | None = None,
    video: Path | None = None,
    crop_size: int = 128,
) -> Iterator[Converted]:
    """Convert recordings, one after the other.

    Args:
        source: a file or folder.
        target: the new file, or a folder for files with the recordings' names. An earlier file is renamed.
        from_kind: the format of `source`; None: by its name, or by what it holds.
        to_kind: the format of `target`; None: by its name.
        video: the images, where the size of the frames is needed and `source` does not note it.
        crop_size: the side of the box of an instance that has one node and no box, in pixels.

    Raises:
        ConfigError: a path or format is wrong.
        RecordingError: the source cannot be read.
    """
    dataset = TestDataset(**dataset_of(source, kind=from_kind, video=video), crop_size=crop_size, chunk=False)
    kind = to_kind or _kind_of(target)
    if kind not in WRITERS:
        raise ConfigError(f"--to: no such format: {kind!r}; {nearest(kind, WRITERS)}")
    check_outputs([kind])
    recordings = open_recordings(dataset, DataloaderConfig(), Path())
    into_folder = target.is_dir() and not _is_file_of(target, kind)
    if len(recordings) > 1 and not into_folder:
        raise ConfigError(
            f"{source} holds {len(recordings)} recordings; name a folder that exists, and the format by --to"
        )
    for recording in recordings:
        recording.reads_images = False
        yield _converted(recording, kind, target, into_folder, dataset)


def _converted(recording: Recording, kind: str, target: Path, into_folder: bool, dataset: TestDataset) -> Converted:
    folder = target if into_folder else target.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    stream = stream_of(recording)
    if kind == "ctc" and stream.frame_shape is None:
        raise ConfigError(f"ctc needs the size of the frames, which {recording.name} does not note: give its --video")
    contents = Contents()
    timed = isinstance(recording, WrittenRecording) and recording.has_times
    # In a folder of its own: an error leaves nothing, and an earlier file of the recording's name stays in its place.
    work = Path(tempfile.mkdtemp(prefix=".trackd-convert-", dir=folder))
    try:
        with open_writer(kind, work, stream) as writer:
            for frame, record in records_of(recording, dataset):
                contents.add(frame, record, timed)
                try:
                    writer.write(record)
                except ValueError as error:
                    raise ConfigError(f"frame {record.frame_index} of {recording.name}: {error}") from None
            path = writer.path
            writer.close()
        to = folder / path.name if into_folder else target
        set_earlier_aside(to)
        path.replace(to)
    except ValueError as error:  # a table that does not fit into memory
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(error)) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    crop = dataset.crop_width_height[0]
    return Converted(to, contents.frames, len(contents.tracks), contents.notes(kind, crop))


def _kind_of(target: Path) -> str:
    name = target.name.lower()
    found = next((kind for ending, kind in ENDINGS if name.endswith(ending)), None)
    if found is None:
        endings = ", ".join(dict.fromkeys(ending for ending, _ in ENDINGS))
        raise ConfigError(f"{target}: its name must end in one of {endings}; or give the format by --to")
    return found


def _is_file_of(target: Path, kind: str) -> bool:
    """Whether a folder is an earlier file of a format that is a folder."""
    return any(target.name.lower().endswith(ending) for ending, named in ENDINGS if named == kind)
