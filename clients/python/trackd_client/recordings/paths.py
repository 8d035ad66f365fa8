"""The recordings at a path, by what lies there: for commands that take a file or folder and no configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trackd_client.configuration import ConfigError, nearest
from trackd_client.recordings.images.image_files import TIFF_SUFFIXES
from trackd_client.recordings.written.written_files import WRITTEN_FORMATS, written_format, written_suffixes

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".wmv")
TABLES = ("man_track.txt", "res_track.txt")  # of label images in one folder
# The names of `--from`: the key of `dataset.test_dataset` that reads such files, and the key of their images.
KINDS = {
    "slp": ("slp_files", "video_files"),
    "mot": ("det_files", "video_files"),
    "ctc": ("gt_images", "raw_images"),
    **{known.kind: ("track_files", "video_files") for known in WRITTEN_FORMATS},
    "trackmate": ("tracks", "videos"),
    "microscopy": ("tracks", "videos"),
}


def dataset_of(path: Path, *, kind: str | None = None, video: Path | None = None) -> dict[str, Any]:
    """The `dataset.test_dataset` that reads the recordings at a path.

    A folder may hold `.slp` files, each with its video; sequences of the Cell Tracking Challenge; label images with
    their table; or TRex's tables.

    Args:
        path: a file or folder.
        kind: of `KINDS`; None: by the ending, or by what the folder holds.
        video: the images, in place of those that the files name.

    Raises:
        ConfigError: it is missing, or not a known kind of recording.
    """
    path = path.absolute()
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if video is not None and not video.exists():
        raise ConfigError(f"{video}: no such video, stack or folder of images")
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"--from: no such format: {kind!r}; {nearest(kind, KINDS)}")
    if path.is_dir() and kind in (None, "slp", "ctc") and written_format(path) is None:
        dataset = _folder(path)
    else:
        key, _ = KINDS[kind or _kind_of(path)]
        dataset = {key: [str(path)]}
    if video is not None:
        images = dict(KINDS.values())
        named = next(iter(dataset))
        if named not in images or len(dataset[named]) != 1:
            raise ConfigError(f"{path}: one video was given, and several recordings are there; name one of them")
        dataset[images[named]] = [str(video.absolute())]
    return dataset


def _kind_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (".slp", ".txt"):
        return {".slp": "slp", ".txt": "mot"}[suffix]
    known = written_format(path)
    if known is not None:
        return known.kind
    if suffix in (".csv", ".xml") or path.is_dir():
        return "microscopy"
    if suffix in written_suffixes():
        titles = dict.fromkeys(each.title for each in WRITTEN_FORMATS if suffix in each.suffixes)
        raise ConfigError(f"{path}: must be {' or '.join(titles)}; looks like none of them")
    raise ConfigError(
        f"{path}: not a known recording: a .slp, {', '.join(written_suffixes())}, .txt (MOTChallenge), .xml, or a "
        "folder of .slp files, of Cell Tracking Challenge sequences or of label images"
    )


def _folder(path: Path) -> dict[str, Any]:
    names = sorted(each.name for each in path.iterdir() if not each.name.startswith("."))
    labels = [name for name in names if name.lower().endswith(".slp")]
    if labels:
        return _slp_folder(path, labels)
    table = next((name for name in TABLES if name in names), None)
    tiffs = [name for name in names if name.lower().endswith(TIFF_SUFFIXES)]
    if table is not None and tiffs:
        return {"gt_images": [[str(path / name) for name in tiffs]], "gt_list": [str(path / table)]}
    truths = [name for name in names if (path / name / "TRA").is_dir() and name.endswith("_GT")]
    if truths:
        found = (file.suffix for file in sorted((path / truths[0] / "TRA").iterdir()))
        suffix = next((suffix for suffix in found if suffix.lower() in TIFF_SUFFIXES), ".tif")
        return {"dir": {"path": [str(path)], "labels_suffix": suffix, "vid_suffix": suffix}}
    if any(name.lower().endswith(".csv") for name in names):
        return {"tracks": [str(path)]}
    raise ConfigError(
        f"{path}: holds no recording: no .slp files, no Cell Tracking Challenge sequences (X with X_GT/TRA), no label "
        "images with their table, and no .csv tables"
    )


def _slp_folder(path: Path, labels: list[str]) -> dict[str, Any]:
    """Labels with the videos of their stems, if all have one; else with the videos that the files name."""
    for suffix in VIDEO_SUFFIXES:
        videos = [path / (name[: -len(".slp")] + suffix) for name in labels]
        if all(video.is_file() for video in videos):
            return {"slp_files": [str(path / name) for name in labels], "video_files": list(map(str, videos))}
    return {"slp_files": [str(path / name) for name in labels]}
