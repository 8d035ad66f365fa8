"""Folders of recordings: which of their files belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trackd_client.configuration import ConfigError, find_path
from trackd_client.recordings.config import Folder
from trackd_client.recordings.images.image_files import TIFF_SUFFIXES

WHERE = "dataset.test_dataset"
# What the Cell Tracking Challenge puts beside a sequence's folder.
BESIDE = ("_GT", "_ST", "_RES")
TABLE = "man_track.txt"


@dataclass(frozen=True, slots=True)
class Sequence:
    """One Cell Tracking Challenge sequence: `X`, `X_GT/TRA`, and if they are there its table and `X_ST/SEG`."""

    name: str
    images: list[Path]
    labels: list[Path]
    man_track: Path | None
    shapes: list[Path]


def is_challenge(folder: Folder) -> bool:
    """The labels are label images, not files of poses."""
    return folder.labels_suffix.lower().endswith(TIFF_SUFFIXES)


def sleap_pairs(folder: Folder, base: Path) -> list[tuple[Path, Path]]:
    """Labels and video of each recording in the folders, by file stem.

    Raises:
        ConfigError: no recording there, or a file without its partner.
    """
    if not folder.labels_suffix.lower().endswith(".slp"):
        raise ConfigError(
            f'{WHERE}.dir.labels_suffix must end in ".slp", or ".tif" for the Cell Tracking Challenge; '
            f"got {folder.labels_suffix!r}"
        )
    pairs = []
    for place in _places(folder, base):
        labels = _by_stem(place, folder.labels_suffix)
        videos = _by_stem(place, folder.vid_suffix)
        for stem in sorted(labels.keys() ^ videos.keys()):
            alone, suffix = (labels, folder.vid_suffix) if stem in labels else (videos, folder.labels_suffix)
            raise ConfigError(f"{WHERE}.dir: {alone[stem]} has no partner {stem}{suffix}")
        if not labels:
            raise ConfigError(f"{WHERE}.dir: no *{folder.labels_suffix} in {place}")
        pairs += [(labels[stem], videos[stem]) for stem in sorted(labels)]
    return pairs


def challenge_sequences(folder: Folder, base: Path) -> list[Sequence]:
    """The sequences in the folders, by name.

    Raises:
        ConfigError: no sequence there, or one without its images or its label images.
    """
    found = []
    for place in _places(folder, base):
        inside = {path.name: path for path in sorted(place.iterdir()) if path.is_dir()}
        labelled = {name.removesuffix("_GT") for name in inside if (inside[name] / "TRA").is_dir()}
        plain = {
            name
            for name, path in inside.items()
            if not name.endswith(BESIDE) and list(path.glob(f"*{folder.vid_suffix}"))
        }
        for name in sorted(labelled ^ plain):
            alone, partner = (f"{name}_GT/TRA", name) if name in labelled else (name, f"{name}_GT/TRA")
            raise ConfigError(f"{WHERE}.dir: {place / alone} has no partner {place / partner}")
        if not labelled:
            raise ConfigError(
                f"{WHERE}.dir: no Cell Tracking Challenge sequence in {place}; expected folders X with "
                f"*{folder.vid_suffix} and X_GT/TRA with *{folder.labels_suffix}"
            )
        found += [_sequence(place, name, folder) for name in sorted(labelled)]
    return found


def _sequence(place: Path, name: str, folder: Folder) -> Sequence:
    truth = place / f"{name}_GT" / "TRA"
    labels = sorted(truth.glob(f"*{folder.labels_suffix}"))
    if not labels:
        raise ConfigError(f"{WHERE}.dir: no *{folder.labels_suffix} in {truth}")
    table = truth / TABLE
    return Sequence(
        name=name,
        images=sorted((place / name).glob(f"*{folder.vid_suffix}")),
        labels=labels,
        man_track=table if table.is_file() else None,
        shapes=sorted((place / f"{name}_ST" / "SEG").glob(f"*{folder.labels_suffix}")),
    )


def _places(folder: Folder, base: Path) -> list[Path]:
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
