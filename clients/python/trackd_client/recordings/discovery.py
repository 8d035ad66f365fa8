"""From the `dataset` section to recordings: finding the files, and choosing their reader."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from trackd_client.configuration import ConfigError, find_path
from trackd_client.recordings.config import Dataloader, DataloaderConfig, TestDataset
from trackd_client.recordings.ctc import CtcRecording
from trackd_client.recordings.folders import WHERE, challenge_sequences, is_challenge, sleap_pairs
from trackd_client.recordings.images.image_files import IMAGE_SUFFIXES, by_number, image_source, in_order
from trackd_client.recordings.images.source import ImageSource
from trackd_client.recordings.microscopy import MicroscopyRecording
from trackd_client.recordings.motchallenge import MotRecording, mot_name
from trackd_client.recordings.recording import Recording
from trackd_client.recordings.sleap import SleapRecording
from trackd_client.recordings.transforms.augmentations import AugmentedRecording, warn_outside_training
from trackd_client.recordings.transforms.prefetch import PrefetchedRecording
from trackd_client.recordings.transforms.pruning import PrunedRecording
from trackd_client.recordings.transforms.shuffling import shuffled

logger = logging.getLogger(__name__)

T = TypeVar("T")


def open_recordings(dataset: TestDataset, dataloader: DataloaderConfig | Dataloader, base: Path) -> list[Recording]:
    """The recordings that a configuration names, in its order; a folder's by file name.

    Files are looked for, not read: what is in them shows when they are played; except that `shuffle` has to
    know the clips. Relative paths are tried against `base`, the working directory and `$TRACKD_SHARED`, in this
    order.

    Args:
        dataset: files named one by one win over `dir`.
        dataloader: its `shuffle` and `num_workers`.
        base: the configuration file's folder.

    Raises:
        ConfigError: no recording is named, or a file is missing or unpaired.
        RecordingError: a video that was named is missing.
    """
    loader = dataloader.test_dataloader if isinstance(dataloader, DataloaderConfig) else dataloader
    recordings = _readers(dataset, base)
    if dataset.max_detection_overlap > 0:
        recordings = [PrunedRecording(recording, dataset) for recording in recordings]
    warn_outside_training(dataset)
    if dataset.augmentations or dataset.mode == "train":
        recordings = [AugmentedRecording(recording, dataset) for recording in recordings]
    if loader.shuffle:
        recordings = shuffled(recordings, dataset.seed)
    if loader.num_workers > 0:
        recordings = [PrefetchedRecording(recording, loader.num_workers) for recording in recordings]
    return recordings


def _readers(dataset: TestDataset, base: Path) -> list[Recording]:
    """A reader for each recording, without what is done to its frames afterwards."""
    named = dataset.slp_files or dataset.det_files or dataset.tracks or dataset.gt_images
    if dataset.dir is not None and named:
        logger.info("%s.dir is not read: the files named beside it win", WHERE)
    if dataset.det_files:
        return _mot(dataset, base)
    if dataset.slp_files:
        labels = [_file(path, base, "slp_files") for path in dataset.slp_files]
        videos = _or_none([_file(path, base, "video_files") for path in dataset.video_files], len(labels))
        return _sleap(list(zip(labels, videos, strict=True)), dataset)
    if dataset.tracks:
        return _microscopy(dataset, base)
    if dataset.gt_images:
        return _challenge(dataset, base)
    if dataset.dir is not None and is_challenge(dataset.dir):
        return _challenge_folders(dataset, base)
    if dataset.dir is not None:
        return _sleap(sleap_pairs(dataset.dir, base), dataset)
    raise ConfigError(f"{WHERE} names no recording: set slp_files, det_files, tracks, gt_images or dir")


def _sleap(pairs: Sequence[tuple[Path, Path | None]], dataset: TestDataset) -> list[Recording]:
    labels = [path for path, _ in pairs]
    names = unique_names((path.stem for path in labels), labels)
    return [
        SleapRecording(path, dataset, video=video, name=name) for (path, video), name in zip(pairs, names, strict=True)
    ]


def _mot(dataset: TestDataset, base: Path) -> list[Recording]:
    files = [_file(path, base, "det_files") for path in dataset.det_files]
    truths = _or_none([_file(path, base, "gt_files") for path in dataset.gt_files], len(files))
    videos = _or_none([_file(path, base, "video_files") for path in dataset.video_files], len(files))
    names = unique_names((mot_name(path) for path in files), files)
    return [
        MotRecording(path, dataset, ground_truth=truth, video=video, name=name)
        for path, truth, video, name in zip(files, truths, videos, names, strict=True)
    ]


def _microscopy(dataset: TestDataset, base: Path) -> list[Recording]:
    labels = [find_path(path, f"{WHERE}.tracks", base, "file or folder") for path in dataset.tracks]
    images = _or_none([_images(paths, base, "videos") for paths in dataset.videos], len(labels))
    names = unique_names((path.name if path.is_dir() else path.stem for path in labels), labels)
    return [
        MicroscopyRecording(path, dataset, images=source, name=name)
        for path, source, name in zip(labels, images, names, strict=True)
    ]


def _challenge(dataset: TestDataset, base: Path) -> list[Recording]:
    labels = [_images(paths, base, "gt_images", numbered=True) for paths in dataset.gt_images]
    images = _or_none([_images(paths, base, "raw_images", numbered=True) for paths in dataset.raw_images], len(labels))
    tables = _or_none([_table(paths, base) for paths in dataset.gt_list], len(labels))
    # `01_GT/TRA` says less than `01`: the images name the recording where there are any.
    places = [source.path if source is not None else truth.path for truth, source in zip(labels, images, strict=True)]
    names = unique_names((place.stem for place in places), places)
    return [
        CtcRecording(truth, dataset, name=name, images=source, man_track=table)
        for truth, source, table, name in zip(labels, images, tables, names, strict=True)
    ]


def _challenge_folders(dataset: TestDataset, base: Path) -> list[Recording]:
    assert dataset.dir is not None
    sequences = challenge_sequences(dataset.dir, base)
    names = unique_names((found.name for found in sequences), (found.images[0].parent for found in sequences))
    return [
        CtcRecording(
            by_number(found.labels),
            dataset,
            name=name,
            images=by_number(found.images),
            man_track=found.man_track,
            shapes=by_number(found.shapes) if found.shapes else None,
        )
        for found, name in zip(sequences, names, strict=True)
    ]


def _images(paths: str | list[str], base: Path, key: str, *, numbered: bool = False) -> ImageSource:
    """A stack, a video or a folder by its path; a list of files by their order, or by the numbers in their names."""
    if isinstance(paths, str):
        found = find_path(paths, f"{WHERE}.{key}", base, "file or folder")
        if not (numbered and found.is_dir()):
            return image_source(found)
        files = sorted(file for file in found.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    else:
        files = [_file(path, base, key) for path in paths]
    if not files:
        raise ConfigError(f"{WHERE}.{key}: no image in {paths!r}")
    return by_number(files) if numbered else in_order(files)


def _table(path: str | list[str], base: Path) -> Path:
    paths = [path] if isinstance(path, str) else path
    if len(paths) != 1 or not paths[0].lower().endswith(".txt"):
        raise ConfigError(f"{WHERE}.gt_list must name one man_track.txt for each recording; got {paths[:3]!r}")
    return _file(paths[0], base, "gt_list")


def _or_none(found: list[T], n: int) -> Sequence[T | None]:
    """What was named, one for each recording, or nothing for any."""
    return found or [None] * n


def _file(path: str, base: Path, key: str) -> Path:
    found = find_path(path, f"{WHERE}.{key}", base, "file")
    if not found.is_file():
        raise ConfigError(f"{WHERE}.{key}: {found} is not a file")
    return found


def unique_names(names: Iterable[str], paths: Iterable[Path]) -> list[str]:
    """Names fit for streams and files, no two alike: a folder's name, and then a number, tells twins apart."""
    plain = [_stream_name(name) for name in names]
    named = [
        _stream_name(f"{path.absolute().parent.name}_{name}") if plain.count(name) > 1 else name
        for name, path in zip(plain, paths, strict=True)
    ]
    taken: set[str] = set()
    for position, name in enumerate(named):
        number = 2
        while named[position] in taken:
            named[position] = f"{name}_{number}"
            number += 1
        taken.add(named[position])
    return named


def _stream_name(name: str) -> str:
    """`name` with what the wire does not take in a stream's name as underscores; at most 120 characters."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120] or "recording"
