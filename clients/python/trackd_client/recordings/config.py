"""The `dataset` and `dataloader` sections: DREEM's keys and trackd's own, with defaults and ranges.

docs/configuration.md describes each key. This module holds its type, its range and its error text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from trackd_client.configuration import Section
from trackd_client.recordings.labels.label_files import sources


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _crop_size(value: Any) -> Any:
    sides = value if isinstance(value, list) else [value]
    if len(sides) not in (1, 2) or not all(_integer(side) and side >= 1 for side in sides):
        raise ValueError("must be a whole number of pixels ≥ 1, or two of them: [width, height]")
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _anchors(value: Any) -> Any:
    if value is None:
        return ""
    names = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    if not (isinstance(value, str) or names or (_integer(value) and value >= 1)):
        raise ValueError("must be a node's name, a list of names, or the number of nodes to choose at random (≥ 1)")
    return value


def _n_chunks(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value <= 0 or (value > 1 and value != int(value)):
        raise ValueError(
            "must be a fraction of the clips, such as 0.5 (1.0: all), or a whole number of clips, such as 1"
        )
    return int(value) if value > 1 else value


def _paths(value: Any) -> Any:
    """One path is a list of one path; null is an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _paths_or_lists(value: Any) -> Any:
    """One path or list for each recording. The lists within a recording's list are read one after the other."""
    value = _paths(value)
    if not isinstance(value, list) or not all(map(_path_or_list, value)):
        raise ValueError(
            "should name for each recording a stack, a folder or a list of files, such as [[t000.tif, t001.tif]]"
        )
    return [recording if isinstance(recording, str) else list(_joined(recording)) for recording in value]


def _path_or_list(value: Any) -> bool:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list) or not files:
        return False
    return all(isinstance(path, str) for part in files for path in (part if isinstance(part, list) else [part]))


def _joined(files: list[str | list[str]]) -> Iterator[str]:
    for part in files:
        yield from [part] if isinstance(part, str) else part


def _pixel_size(value: Any) -> Any:
    if value is None:
        return None
    sides = value if isinstance(value, list) else [value]
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) and side > 0 for side in sides)
    if len(sides) not in (1, 2) or not numbers or not all(math.isfinite(side) for side in sides):
        raise ValueError("must be a pixel's side in the labels' unit, > 0, or two of them: [x, y]")
    return [float(side) for side in sides] * (3 - len(sides))


def _source(value: Any) -> Any:
    name = value.lower() if isinstance(value, str) else value
    if name is not None and name not in sources():
        raise ValueError(f"must be one of {', '.join(sources())}, or null for the format that the file looks like")
    return name


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _augmentations(value: Any) -> Any:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("must map augmentation names to their arguments")
    return {name: {} if arguments is None else arguments for name, arguments in value.items()}


Paths = Annotated[list[str], BeforeValidator(_paths)]
PathsOrLists = Annotated[list[str | list[str]], BeforeValidator(_paths_or_lists)]
Augmentations = Annotated[dict[str, dict[str, Any]], BeforeValidator(_augmentations)]
Pixels = Annotated[int, Field(ge=0)]


class LiveDataset(Section):
    """The keys of `dataset.test_dataset` that apply to live frames. A stream's `open` may set them."""

    padding: Pixels = 5
    crop_size: Annotated[int | list[int], BeforeValidator(_crop_size)] = 128
    anchors: Annotated[str | list[str] | int, BeforeValidator(_anchors)] = ""
    handle_missing: Literal["drop", "ignore", "centroid"] = "centroid"
    dilation_radius_px: Pixels = 0
    pixel_range: Literal["unit", "raw"] = "unit"
    chunk: bool = True
    clip_length: Annotated[int, Field(ge=1)] = 32
    seed: Annotated[int | None, Field(ge=0)] = None

    @property
    def crop_width_height(self) -> tuple[int, int]:
        """The crop's sides in pixels, without padding."""
        if isinstance(self.crop_size, int):
            return self.crop_size, self.crop_size
        return self.crop_size[0], self.crop_size[1]


# The keys that name label files, one for each kind of recording.
LABEL_KEYS = ("slp_files", "det_files", "tracks", "track_files", "gt_images")
# The keys whose files belong to label files by position: what one of them names, and the keys of the label files.
PAIRED = {
    "video_files": ("video", ("slp_files", "det_files", "track_files")),
    "gt_files": ("file", ("det_files",)),
    "videos": ("stack or list of images", ("tracks",)),
    "raw_images": ("stack or list of images", ("gt_images",)),
    "gt_list": ("man_track.txt", ("gt_images",)),
}


class Folder(Section):
    """One or several folders of recordings, in which labels and videos are paired by file stem."""

    path: Annotated[list[str], BeforeValidator(_paths), Field(min_length=1)]
    labels_suffix: Annotated[str, Field(min_length=1)] = ".slp"
    vid_suffix: Annotated[str, Field(min_length=1)] = ".mp4"


class TestDataset(LiveDataset):
    """The recordings to play, and how to play them."""

    __test__ = False  # pytest would collect a class of this name, which is DREEM's

    dir: Folder | None = None
    slp_files: Paths = Field(default_factory=list)
    video_files: Paths = Field(default_factory=list)
    det_files: Paths = Field(default_factory=list)
    gt_files: Paths = Field(default_factory=list)
    videos: PathsOrLists = Field(default_factory=list)
    tracks: Paths = Field(default_factory=list)
    track_files: Paths = Field(default_factory=list)
    source: Annotated[str | None, BeforeValidator(_source)] = None
    pixel_size: Annotated[list[float] | None, BeforeValidator(_pixel_size)] = None
    raw_images: PathsOrLists = Field(default_factory=list)
    gt_images: PathsOrLists = Field(default_factory=list)
    gt_list: PathsOrLists = Field(default_factory=list)
    n_chunks: Annotated[int | float, BeforeValidator(_n_chunks)] = 1.0  # an int counts clips
    mode: Literal["train", "val", "test"] = "val"
    augmentations: Augmentations = Field(default_factory=dict)
    max_detection_overlap: Annotated[float, Field(ge=0, le=1)] = 0.0
    fps: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None

    @property
    def plays_all_clips(self) -> bool:
        """Whether `n_chunks` leaves out no clip, whatever the recording's length is."""
        return isinstance(self.n_chunks, float) and self.n_chunks == 1

    @model_validator(mode="after")
    def _paired(self) -> TestDataset:
        named = [key for key in LABEL_KEYS if getattr(self, key)]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are {len(named)} kinds of recording: name one of them")
        for key, (noun, kinds) in PAIRED.items():
            labels = next((kind for kind in kinds if getattr(self, kind)), kinds[0])
            n, n_labels = len(getattr(self, key)), len(getattr(self, labels))
            if n and n != n_labels:
                raise ValueError(f"{key} must name one {noun} for each of {labels} ({n_labels}, not {n})")
        return self


class DatasetConfig(Section):
    """The `dataset` section. The training parts of a DREEM file are accepted and not used."""

    test_dataset: Annotated[TestDataset, BeforeValidator(_none_is_empty)] = TestDataset()
    train_dataset: Any = None
    val_dataset: Any = None

    @property
    def ignored(self) -> list[str]:
        """The keys that are set and not used."""
        return [name for name in ("train_dataset", "val_dataset") if getattr(self, name) is not None]


class Dataloader(Section):
    """How recordings are read. DREEM passes the untyped keys to torch's DataLoader, which trackd does not use."""

    num_workers: Annotated[int, Field(ge=0)] = 0
    shuffle: bool = False
    batch_size: Any = None
    pin_memory: Any = None
    drop_last: Any = None
    persistent_workers: Any = None
    prefetch_factor: Any = None
    timeout: Any = None


class DataloaderConfig(Section):
    """The `dataloader` section."""

    test_dataloader: Annotated[Dataloader, BeforeValidator(_none_is_empty)] = Dataloader()
    train_dataloader: Any = None
    val_dataloader: Any = None

    @property
    def ignored(self) -> list[str]:
        """The keys that are set and not used."""
        return [name for name in ("train_dataloader", "val_dataloader") if getattr(self, name) is not None]
