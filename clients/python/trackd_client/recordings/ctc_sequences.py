"""Folders of the Cell Tracking Challenge: the files of each sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trackd_client.configuration import ConfigError
from trackd_client.recordings.config import Folder
from trackd_client.recordings.folders import places_of
from trackd_client.recordings.named_files import WHERE

# The endings of the folders that the challenge puts beside a sequence's folder.
BESIDE = ("_GT", "_ST", "_RES")
TABLE = "man_track.txt"


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence: `X`, `X_GT/TRA`, and if they exist its table of tracks and `X_ST/SEG`."""

    name: str
    images: list[Path]
    labels: list[Path]
    man_track: Path | None
    shapes: list[Path]


def challenge_sequences(folder: Folder, base: Path) -> list[Sequence]:
    """The sequences in the folders, sorted by name within each folder.

    Raises:
        ConfigError: there is no sequence, or one without images or label images.
    """
    found = []
    for place in places_of(folder, base):
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


def unread_beside(labels: Path, man_track: Path | None) -> list[str]:
    """What `dir` would read of a sequence whose label images are named one by one: full masks, and a table of tracks.

    Args:
        labels: the folder of the label images.
        man_track: the table that is named too.
    """
    if labels.name != "TRA" or not labels.parent.name.endswith("_GT"):
        return []
    shapes = labels.parent.parent / f"{labels.parent.name.removesuffix('_GT')}_ST" / "SEG"
    found = []
    if shapes.is_dir():
        found.append(f"the full masks of {shapes}, in place of these labels' pixels")
    if man_track is None and (labels / TABLE).is_file():
        found.append(f"the identities and parents of {labels / TABLE}")
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
