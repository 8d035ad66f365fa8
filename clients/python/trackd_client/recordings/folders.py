"""Folders of recordings, and the files in them that belong together."""

from __future__ import annotations

from pathlib import Path

from trackd_client.configuration import ConfigError, find_path
from trackd_client.recordings.config import Folder
from trackd_client.recordings.named_files import WHERE


def stem_pairs(folder: Folder, base: Path) -> list[tuple[Path, Path]]:
    """Labels and video of each recording in the folders, by file stem.

    Raises:
        ConfigError: a folder holds no recording, or a file has no partner.
    """
    pairs = []
    for place in places_of(folder, base):
        labels = _by_stem(place, folder.labels_suffix)
        videos = _by_stem(place, folder.vid_suffix)
        for stem in sorted(labels.keys() ^ videos.keys()):
            alone, suffix = (labels, folder.vid_suffix) if stem in labels else (videos, folder.labels_suffix)
            raise ConfigError(f"{WHERE}.dir: {alone[stem]} has no partner {stem}{suffix}")
        if not labels:
            raise ConfigError(f"{WHERE}.dir: no *{folder.labels_suffix} in {place}")
        pairs += [(labels[stem], videos[stem]) for stem in sorted(labels)]
    return pairs


def labels_in(folder: Folder, base: Path) -> list[Path]:
    """The label files in the folders, by name within each folder.

    Raises:
        ConfigError: a folder holds none.
    """
    found = []
    for place in places_of(folder, base):
        labels = _by_stem(place, folder.labels_suffix)
        if not labels:
            raise ConfigError(f"{WHERE}.dir: no *{folder.labels_suffix} in {place}")
        found += [labels[stem] for stem in sorted(labels)]
    return found


def has_videos(place: Path, folder: Folder) -> bool:
    """Whether a folder holds a file with the ending `vid_suffix`."""
    return bool(_by_stem(place, folder.vid_suffix))


def places_of(folder: Folder, base: Path) -> list[Path]:
    """The folders that `dir.path` names.

    Raises:
        ConfigError: one is missing, or not a folder.
    """
    places = []
    for path in folder.path:
        place = find_path(path, f"{WHERE}.dir.path", base, "folder")
        if not place.is_dir():
            raise ConfigError(f"{WHERE}.dir.path: {place} is not a folder")
        places.append(place)
    return places


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.iterdir())
        if path.name.endswith(suffix) and path.is_file()
    }
