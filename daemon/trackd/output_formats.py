"""The table of output formats: a format is one line here and one file in `trackd/outputs/formats`.

Both the configuration, which checks `stream.outputs`, and the writers read this table. So it stands below both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

from trackd_client.configuration import ConfigError


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The writer of a format, and what it needs.

    The writer is named here, and imported when it is used: importing sleap-io alone takes a second.
    """

    writer: str  # "module:class", a subclass of `trackd.outputs.writer.Writer`
    package: str | None = None  # needed beyond trackd's own dependencies, several with a space between them; the extra
    # of the format's name has them
    lacks: str = ""  # what its files do not hold, of: boxes keypoints scores masks times names lineage
    # untracked corrections


# By the name that `stream.outputs` takes. The order is that of the error texts.
WRITERS = {
    "slp": OutputFormat("trackd.outputs.formats.slp:SlpWriter", lacks="boxes masks times lineage corrections"),
    "mot": OutputFormat(
        "trackd.outputs.formats.mot:MotWriter", lacks="keypoints masks times names lineage untracked corrections"
    ),
    "ctc": OutputFormat(
        "trackd.outputs.formats.ctc:CtcWriter", lacks="keypoints scores times names untracked corrections"
    ),
    "csv": OutputFormat("trackd.outputs.formats.csv_table:CsvWriter", lacks="masks"),
    "parquet": OutputFormat("trackd.outputs.formats.parquet_table:ParquetWriter", "pyarrow", "masks"),
    "trackmate": OutputFormat(
        "trackd.outputs.formats.trackmate:TrackMateWriter", lacks="boxes keypoints masks times lineage corrections"
    ),
    "jsonl": OutputFormat("trackd.outputs.formats.jsonl:JsonlWriter", lacks="masks"),
    "h5": OutputFormat("trackd.outputs.formats.analysis_h5:AnalysisH5Writer", lacks="boxes masks untracked"),
    "nwb": OutputFormat("trackd.outputs.formats.nwb:NwbWriter", "pynwb ndx_pose", "masks untracked"),
    "dlc": OutputFormat(
        "trackd.outputs.formats.dlc:DlcWriter", lacks="boxes masks times lineage untracked corrections"
    ),
    "coco": OutputFormat("trackd.outputs.formats.coco:CocoWriter", lacks="masks"),
    "geff": OutputFormat("trackd.outputs.formats.geff:GeffWriter", "geff", "keypoints masks"),
    "movement": OutputFormat("trackd.outputs.formats.movement:MovementWriter", "xarray h5netcdf", "masks untracked"),
}


def check_outputs(kinds: Iterable[str]) -> None:
    """Check at start, not at the first frame, that the packages of these formats are installed.

    Args:
        kinds: names of formats that are in the table.

    Raises:
        ConfigError: a package is not installed; the text names it.
    """
    for kind in kinds:
        for package in (WRITERS[kind].package or "").split():
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"{kind} needs {package}, which is not installed: pip install {package}; csv needs nothing"
                )
