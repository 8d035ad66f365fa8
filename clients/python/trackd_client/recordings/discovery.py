"""The recording formats, and the recordings that a `dataset` section names.

A new recording format is one new file beside this one, and one line in `FORMATS`. A new format of label files for
`tracks` is one new file in `labels/`, and one line in `labels.label_files.LABEL_FORMATS`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from trackd_client.configuration import ConfigError
from trackd_client.recordings.config import Dataloader, DataloaderConfig, Folder, TestDataset
from trackd_client.recordings.ctc import CTC
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.microscopy import MICROSCOPY
from trackd_client.recordings.motchallenge import MOTCHALLENGE
from trackd_client.recordings.named_files import WHERE
from trackd_client.recordings.recording import Recording
from trackd_client.recordings.recording_format import RecordingFormat
from trackd_client.recordings.sleap import SLEAP
from trackd_client.recordings.transforms.augmentations import AugmentedRecording, warn_about
from trackd_client.recordings.transforms.prefetch import PrefetchedRecording
from trackd_client.recordings.transforms.pruning import PrunedRecording
from trackd_client.recordings.transforms.shuffling import shuffled
from trackd_client.recordings.written.written_recording import WRITTEN

logger = logging.getLogger(__name__)

FORMATS: tuple[RecordingFormat, ...] = (
    SLEAP,
    MOTCHALLENGE,
    MICROSCOPY,
    WRITTEN,
    CTC,
)


def open_recordings(
    dataset: TestDataset,
    dataloader: DataloaderConfig | Dataloader,
    base: Path,
    limits: RecordingLimits = DEFAULT_LIMITS,
) -> list[Recording]:
    """The recordings that a configuration names, in its order; those of a folder by file name.

    Files are only searched for. A recording reads its files when it is played; with `shuffle` the labels are read
    here, because they determine the clips. Relative paths are tried against `base`, the working directory and
    `$TRACKD_SHARED`, in this order.

    Args:
        dataset: files named one by one take precedence over `dir`.
        dataloader: its `shuffle` and `num_workers`.
        base: the configuration file's folder.
        limits: what the files may claim.

    Raises:
        ConfigError: no recording is named, or a file is missing or unpaired.
        RecordingError: a video that was named is missing.
    """
    loader = dataloader.test_dataloader if isinstance(dataloader, DataloaderConfig) else dataloader
    recordings = _opened(dataset, base, limits)
    if dataset.max_detection_overlap > 0:
        recordings = [PrunedRecording(recording, dataset) for recording in recordings]
    warn_about(dataset)
    if dataset.augmentations or dataset.mode == "train":
        recordings = [AugmentedRecording(recording, dataset) for recording in recordings]
    if loader.shuffle:
        recordings = shuffled(recordings, dataset.seed)
    if loader.num_workers > 0:
        recordings = [PrefetchedRecording(recording, loader.num_workers) for recording in recordings]
    return recordings


def _opened(dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    """The recordings as they are in their files, without transforms."""
    for known in FORMATS:
        if known.key is not None and known.open_files is not None and getattr(dataset, known.key):
            if dataset.dir is not None:
                logger.info("%s.dir is not read: %s takes precedence", WHERE, known.key)
            return known.open_files(dataset, base, limits)
    if dataset.dir is not None:
        return _opened_folder(dataset.dir, dataset, base, limits)
    keys = ", ".join(known.key for known in FORMATS if known.key is not None)
    raise ConfigError(f"{WHERE} names no recording: set {keys} or dir")


def _opened_folder(folder: Folder, dataset: TestDataset, base: Path, limits: RecordingLimits) -> list[Recording]:
    for known in FORMATS:
        if known.open_folder is not None and folder.labels_suffix.lower().endswith(known.labels_suffixes):
            return known.open_folder(folder, dataset, base, limits)
    endings = ", ".join(f'"{suffix}" ({known.title})' for known in FORMATS for suffix in known.labels_suffixes)
    raise ConfigError(f"{WHERE}.dir.labels_suffix must end in one of {endings}; got {folder.labels_suffix!r}")
