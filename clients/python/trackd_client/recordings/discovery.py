"""From the `dataset` section to recordings: finding the files, pairing them, and choosing their reader."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from trackd_client.configuration import ConfigError, find_path
from trackd_client.recordings.augmentations import AugmentedRecording, warn_outside_training
from trackd_client.recordings.config import Dataloader, DataloaderConfig, Folder, TestDataset
from trackd_client.recordings.motchallenge import MotRecording, mot_name
from trackd_client.recordings.recording import Recording
from trackd_client.recordings.sleap import SleapRecording

logger = logging.getLogger(__name__)

WHERE = "dataset.test_dataset"
# Keys of the kinds of recording whose readers are still to come.
NOT_READABLE_YET = {
    "tracks": "microscopy",
    "videos": "microscopy",
    "raw_images": "Cell Tracking Challenge",
    "gt_images": "Cell Tracking Challenge",
    "gt_list": "Cell Tracking Challenge",
}
TIFF_SUFFIXES = (".tif", ".tiff")


def open_recordings(dataset: TestDataset, dataloader: DataloaderConfig | Dataloader, base: Path) -> list[Recording]:
    """The recordings that a configuration names, in its order; a folder's by file name.

    Files are looked for, not opened: what is in them shows when they are played. Relative paths are tried
    against `base`, the working directory and `$TRACKD_SHARED`, in this order.

    Args:
        dataset: files named one by one win over `dir`.
        dataloader: its `shuffle`.
        base: the configuration file's folder.

    Raises:
        ConfigError: no recording is named, a file is missing or unpaired, or a kind cannot be read.
        RecordingError: a video that was named is missing.
    """
    for key, kind in NOT_READABLE_YET.items():
        if getattr(dataset, key):
            raise ConfigError(f"{WHERE}.{key}: {kind} recordings cannot be read yet; slp_files, det_files and dir can")
    loader = dataloader.test_dataloader if isinstance(dataloader, DataloaderConfig) else dataloader
    if dataset.dir is not None and (dataset.slp_files or dataset.det_files):
        logger.info("%s.dir is not read: the files named beside it win", WHERE)
    recordings: Sequence[Recording]
    if dataset.det_files:
        recordings = _mot(dataset, loader.shuffle, base)
    elif dataset.slp_files:
        labels = [_file(path, base, "slp_files") for path in dataset.slp_files]
        videos = [_file(path, base, "video_files") for path in dataset.video_files]
        recordings = _sleap(labels, videos or [None] * len(labels), dataset, loader.shuffle)
    elif dataset.dir is not None:
        pairs = _pairs(dataset.dir, base)
        recordings = _sleap([pair[0] for pair in pairs], [pair[1] for pair in pairs], dataset, loader.shuffle)
    else:
        raise ConfigError(f"{WHERE} names no recording: set slp_files, det_files or dir")
    warn_outside_training(dataset)
    if dataset.augmentations or dataset.mode == "train":
        return [AugmentedRecording(recording, dataset) for recording in recordings]
    return list(recordings)


def _sleap(
    labels: Sequence[Path], videos: Sequence[Path | None], dataset: TestDataset, shuffle: bool
) -> list[Recording]:
    names = unique_names((path.stem for path in labels), labels)
    return [
        SleapRecording(path, dataset, video=video, name=name, shuffle=shuffle)
        for path, video, name in zip(labels, videos, names, strict=True)
    ]


def _mot(dataset: TestDataset, shuffle: bool, base: Path) -> list[Recording]:
    files = [_file(path, base, "det_files") for path in dataset.det_files]
    none: list[Path | None] = [None] * len(files)
    truths = [_file(path, base, "gt_files") for path in dataset.gt_files] or none
    videos = [_file(path, base, "video_files") for path in dataset.video_files] or none
    names = unique_names((mot_name(path) for path in files), files)
    return [
        MotRecording(path, dataset, ground_truth=truth, video=video, name=name, shuffle=shuffle)
        for path, truth, video, name in zip(files, truths, videos, names, strict=True)
    ]


def _pairs(folder: Folder, base: Path) -> list[tuple[Path, Path]]:
    """Labels and video of each recording in the folders, by file stem."""
    if folder.labels_suffix.lower().endswith(TIFF_SUFFIXES):
        raise ConfigError(f"{WHERE}.dir.labels_suffix: Cell Tracking Challenge recordings cannot be read yet; .slp can")
    if not folder.labels_suffix.lower().endswith(".slp"):
        raise ConfigError(f'{WHERE}.dir.labels_suffix must end in ".slp"; got {folder.labels_suffix!r}')
    pairs = []
    for path in folder.path:
        place = _existing(path, base, "dir.path", "folder")
        if not place.is_dir():
            raise ConfigError(f"{WHERE}.dir.path: {place} is not a folder")
        labels = _by_stem(place, folder.labels_suffix)
        videos = _by_stem(place, folder.vid_suffix)
        for stem in sorted(labels.keys() ^ videos.keys()):
            alone, suffix = (labels, folder.vid_suffix) if stem in labels else (videos, folder.labels_suffix)
            raise ConfigError(f"{WHERE}.dir: {alone[stem]} has no partner {stem}{suffix}")
        if not labels:
            raise ConfigError(f"{WHERE}.dir: no *{folder.labels_suffix} in {place}")
        pairs += [(labels[stem], videos[stem]) for stem in sorted(labels)]
    return pairs


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.iterdir())
        if path.name.endswith(suffix) and path.is_file()
    }


def _file(path: str, base: Path, key: str) -> Path:
    found = _existing(path, base, key)
    if not found.is_file():
        raise ConfigError(f"{WHERE}.{key}: {found} is not a file")
    return found


def _existing(path: str, base: Path, key: str, kind: str = "file") -> Path:
    return find_path(path, f"{WHERE}.{key}", base, kind)


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
