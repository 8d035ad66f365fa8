"""Files of finished tracks as other programs write them."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np

from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.limits import DEFAULT_LIMITS
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.written.written_files import written_format

ANIMALS = ("Anna", "Bert")
PARTS = ("snout", "tail")
COLUMNS = [
    ("DLC_net", animal, part, value) for animal in ANIMALS for part in PARTS for value in ("x", "y", "likelihood")
]
ROWS = np.arange(36, dtype=float).reshape(3, 12) / 100 + np.arange(3)[:, None]
ROWS[1, :6] = np.nan  # Anna is away in the second row


def read(path: Path, limits=DEFAULT_LIMITS):
    """What the reader of a file makes of it."""
    return written_format(path).read(path, limits)


def played(path: Path) -> list:
    """The frames of a file, by the path that a command takes."""
    (recording,) = open_recordings(TestDataset(**dataset_of(path), chunk=False), DataloaderConfig(), Path())
    return list(recording.frames())


def dlc_csv(path: Path, labels=(0, 1, 2)) -> Path:
    heads = zip(("scorer", "individuals", "bodyparts", "coords"), zip(*COLUMNS, strict=True), strict=True)
    lines = [",".join((title, *level)) for title, level in heads]
    for label, row in zip(labels, ROWS, strict=True):
        lines.append(",".join((str(label), *("" if np.isnan(value) else str(value) for value in row))))
    path.write_text("\n".join(lines) + "\n")
    return path


def dlc_table(path: Path, *, names: bytes | None = None) -> Path:
    """The layout `table` of pandas: records, and the names of the columns as a pickle in an attribute."""
    kind = np.dtype([("index", "<i8"), ("values_block_0", "<f8", (12,))])
    rows = np.zeros(3, kind)
    rows["index"], rows["values_block_0"] = range(3), ROWS
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame_table")
        group.attrs["non_index_axes"] = np.bytes_(pickle.dumps([(1, COLUMNS)], 0) if names is None else names)
        group["table"] = rows
    return path


def dlc_fixed(path: Path) -> Path:
    """The layout `fixed` of pandas: the levels of both axes as tables."""
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame")
        for level, along in enumerate(zip(*COLUMNS, strict=True)):
            values = sorted(set(along))
            group[f"block0_items_level{level}"] = np.array([value.encode() for value in values])
            group[f"block0_items_label{level}"] = np.array([values.index(value) for value in along], np.int8)
        group["axis1"] = np.arange(3)
        group["block0_values"] = ROWS
    return path


def analysis(path: Path, n_frames: int = 4, **tables) -> Path:
    """SLEAP's own layout: two tracks of two nodes."""
    places = np.full((2, 2, 2, n_frames), np.nan)
    places[0, :, :, 0] = 5
    with h5py.File(path, "w") as file:
        file["tracks"] = places
        file["track_names"], file["node_names"] = [b"a", b"b"], [b"head", b"tail"]
        for name, value in tables.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value
    return path
