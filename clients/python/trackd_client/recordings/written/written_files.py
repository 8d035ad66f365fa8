"""The formats of finished tracks, and the choice of a file's format.

A new format is one new file beside this one, and one line in `WRITTEN_FORMATS`.
"""

from __future__ import annotations

from pathlib import Path

from trackd_client.recordings.written.analysis_h5 import ANALYSIS_H5
from trackd_client.recordings.written.coco_json import COCO
from trackd_client.recordings.written.dlc_hdf5 import DLC_HDF5
from trackd_client.recordings.written.dlc_tables import DLC_CSV
from trackd_client.recordings.written.geff_graph import GEFF
from trackd_client.recordings.written.json_lines import JSON_LINES
from trackd_client.recordings.written.movement_netcdf import MOVEMENT
from trackd_client.recordings.written.nwb_poses import NWB
from trackd_client.recordings.written.track_tables import CSV_TABLE, PARQUET_TABLE
from trackd_client.recordings.written.written_format import WrittenFormat

# The first format that recognises a file reads it.
WRITTEN_FORMATS: tuple[WrittenFormat, ...] = (
    JSON_LINES,
    CSV_TABLE,
    PARQUET_TABLE,
    DLC_CSV,
    ANALYSIS_H5,
    DLC_HDF5,
    NWB,
    COCO,
    GEFF,
    MOVEMENT,
)


def written_suffixes() -> tuple[str, ...]:
    """The endings of the files' names."""
    return tuple(dict.fromkeys(suffix for known in WRITTEN_FORMATS for suffix in known.suffixes))


def written_format(path: Path) -> WrittenFormat | None:
    """The format of a file or folder; None if no format recognises it.

    Raises:
        RecordingError: the file cannot be read, or a package that reads it is not installed.
    """
    folder = path.is_dir()
    for known in WRITTEN_FORMATS:
        named = known.is_folder == folder and path.suffix.lower() in known.suffixes
        if named and (known.recognises is None or known.recognises(path)):
            return known
    return None
