"""A DREEM user at work: inference YAML files for short real recordings, and `trackd track` in this process."""

from __future__ import annotations

import io
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import yaml
from rich.console import Console

from trackd.commands.observer import Observer
from trackd.commands.track import Summary, track
from trackd.config import Config, load_config
from trackd_client.protocol import Tracks
from trackd_client.recordings.recording import RecordedFrame, Recording

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("TRACKD_SHARED") or ROOT.parent / "shared").resolve()
DATA = SHARED / "data"

# Inference files in DREEM's form. `n_chunks: 1` is one clip, which `seed` draws.
FILES = {
    # Poses of a weak detector: jumps and missing instances. No video and no checkpoint.
    "weak": """
        dataset:
          test_dataset: {slp_files: [weak/clip.predictions.slp], clip_length: 60, n_chunks: 1, seed: 0}
    """,
    # Two flies and false instances, 24 nodes, with a video and a checkpoint.
    "flies": """
        ckpt_path: oracle/ckpt/desc_learned.ckpt
        dataset:
          test_dataset:
            slp_files: [data/sleap_centered_pair/centered_pair_predictions.slp]
            video_files: [data/sleap_centered_pair/centered_pair_low_quality.mp4]
            crop_size: 64
            padding: 5
            anchors: centroid
            clip_length: 30
            n_chunks: 1
            seed: 0
    """,
    "folder": """
        dataset:
          test_dataset:
            dir: {path: sessions, labels_suffix: .slp, vid_suffix: .mp4}
            clip_length: 8
            n_chunks: 1
            seed: 0
    """,
    "spots": """
        dataset:
          test_dataset: {tracks: [data/trackmate_csv/D5_all_spots.csv], source: trackmate, crop_size: 20}
    """,
    "receptors": """
        dataset:
          test_dataset: {tracks: ["data/isbi_receptors/RECEPTOR snr 7 density low.xml"], crop_size: 20}
    """,
    "icy": """
        dataset:
          test_dataset: {tracks: [data/icy_10cells/10_cells_1_gt.xml], clip_length: 20, n_chunks: 1, seed: 0}
    """,
    "cells": """
        dataset:
          test_dataset:
            raw_images: [data/dreem_ctc_sample/test_0]
            gt_images: [data/dreem_ctc_sample/test_0_GT/TRA]
            crop_size: 20
    """,
}
# Files in folders of their own, without the other files that are beside them in the shared folder.
COPIED = {
    "weak": ["sleap_clip_pair/clip.predictions.slp"],
    "noisy": ["dreem_two_flies/two_flies_noisy_detections.slp"],
    "sessions": ["dreem_two_flies/two_flies.slp", "dreem_two_flies/two_flies.mp4"],
    "tables": ["trackmate_csv/D5_all_spots.csv"],
    "xml": ["trackmate_xml/pytrackmate_FakeTracks_v3.7.xml"],
}
SECTIONS = {"dataset": "dataset.test_dataset", "dataloader": "dataloader.test_dataloader"}


@dataclass(eq=False)
class Played(Observer):
    """One recording as it was played: its frames without their images, and their settlements."""

    name: str
    frames: list[RecordedFrame] = field(default_factory=list)
    tracks: list[Tracks] = field(default_factory=list)
    brightness: list[float | None] = field(default_factory=list)  # mean of each image
    n_readers: int = 0  # processes that read frames ahead, when the first frame was settled

    def add(self, frame: RecordedFrame, tracks: Tracks) -> None:
        if not self.frames:
            self.n_readers = _count_readers()
        self.brightness.append(None if frame.image is None else float(frame.image.mean()))
        self.frames.append(replace(frame, image=None))
        self.tracks.append(tracks)

    @property
    def with_image(self) -> list[int]:
        """Indices of the frames with an image."""
        return [f.frame_index for f, light in zip(self.frames, self.brightness, strict=True) if light is not None]


@dataclass
class Run:
    """What one run of `trackd track` gave."""

    out_dir: Path
    summaries: list[Summary]
    played: list[Played]
    warnings: list[str]  # that it logged

    @property
    def names(self) -> list[str]:
        return [played.name for played in self.played]

    @property
    def frames(self) -> list[RecordedFrame]:
        return [frame for played in self.played for frame in played.frames]

    @property
    def tracks(self) -> list[Tracks]:
        return [tracks for played in self.played for tracks in played.tracks]

    @property
    def indices(self) -> list[int]:
        return [frame.frame_index for frame in self.frames]

    @property
    def ids(self) -> list[list[int]]:
        return [[] if tracks.track_ids is None else tracks.track_ids.tolist() for tracks in self.tracks]

    @property
    def scores(self) -> list[list[float]]:
        """Of each detection, rounded; −1 for none."""
        found = [tracks.track_scores for tracks in self.tracks]
        return [[] if scores is None else np.nan_to_num(scores, nan=-1.0).round(4).tolist() for scores in found]

    @property
    def n_detections(self) -> int:
        return sum(map(len, self.ids))

    @property
    def n_tracks(self) -> int:
        return len({track_id for ids in self.ids for track_id in ids if track_id >= 0})

    @property
    def n_unassigned(self) -> int:
        return sum(ids.count(-1) for ids in self.ids)

    def n_flagged(self, flag: str) -> int:
        return sum(flag in tracks.flags for tracks in self.tracks)


class Lines(logging.Handler):
    """Keeps the lines that a user sees without `-v`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class User:
    """Runs `trackd track` in this process with the files above.

    Args:
        folder: an empty folder, for the files, their outputs, and links to the shared folder's `data` and `oracle`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs: dict[str, Run] = {}  # by configuration
        for name in ("data", "oracle"):
            (folder / name).symlink_to(SHARED / name)
        for name, files in COPIED.items():
            (folder / name).mkdir()
            for file in files:
                shutil.copy(DATA / file, folder / name)
        for name, text in FILES.items():
            tree = {**yaml.safe_load(text), "daemon": {"device": "cpu"}, "stream": {"outputs": ["mot"]}}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))

    def track(self, name: str, *settings: str) -> Run:
        """Run one of `FILES` with other values, such as `tracker.iou=max`; equal configurations are run once.

        Keys of `dataset` and `dataloader` are those of their test part: `dataset.padding=0`.
        """
        with _logged() as lines:
            config = load_config(self.folder / f"{name}.yaml", map(_full_key, settings), environment={})
        key = config.model_dump_json()
        if key not in self._runs:
            if "out_dir" not in config.model_fields_set:
                config = config.model_copy(update={"out_dir": str(self.folder / "out" / str(len(self._runs)))})
            self._runs[key] = self._track(config)
        run = self._runs[key]
        return replace(run, warnings=lines + run.warnings)

    def _track(self, config: Config) -> Run:
        played: list[Played] = []

        def observe(config: Config, recording: Recording) -> list[Observer]:
            played.append(Played(recording.name))
            return [played[-1]]

        with _logged() as lines:
            summaries = track(config, self.folder, Console(file=io.StringIO(), width=200), observe=observe)
        return Run(Path(config.out_dir), summaries, played, lines)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the lines that a user sees without `-v`."""
    handler = Lines()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.lines
    finally:
        logging.getLogger().removeHandler(handler)


def _count_readers() -> int:
    count = 0
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            count += "spawn_main" in " ".join(child.cmdline())
    return count


def _full_key(setting: str) -> str:
    section, dot, rest = setting.partition(".")
    return f"{SECTIONS.get(section, section)}{dot}{rest}"
