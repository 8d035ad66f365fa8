"""The description of a recording format: the configuration that selects it, and the functions that open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trackd_client.recordings.config import Folder, TestDataset
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import Recording


@dataclass(frozen=True, slots=True)
class RecordingFormat:
    """One recording format.

    A `key` of `dataset.test_dataset` selects it, or a `dir` whose `labels_suffix` ends in one of `labels_suffixes`.
    Both functions check that the files exist and open none of them. Their last arguments are the base folder of
    relative paths, and the limits. They raise `ConfigError`.
    """

    title: str  # for error texts
    key: str | None = None  # the key that names its label files; None: it is read from folders only
    open_files: Callable[[TestDataset, Path, RecordingLimits], list[Recording]] | None = None  # given with `key`
    labels_suffixes: tuple[str, ...] = ()  # in lower case
    open_folder: Callable[[Folder, TestDataset, Path, RecordingLimits], list[Recording]] | None = (
        None  # given with `labels_suffixes`
    )
