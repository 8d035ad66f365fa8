"""`trackd outputs recover`: the files of processes that were killed, from the parts they left behind."""

from __future__ import annotations

from pathlib import Path

from trackd.outputs.files.part import SUFFIX, is_left_behind
from trackd.outputs.files.whole_file import WholeFileWriter, recover_whole_file
from trackd.outputs.formats.ctc import JOURNAL, recover_ctc
from trackd.outputs.writer import check_outputs
from trackd_client.configuration import ConfigError


def recover(out_dir: Path) -> list[Path]:
    """Finish every part in a folder that no living process writes; the files that were made of them.

    Raises:
        ConfigError: no such folder, or a package that a part's format needs is not installed.
    """
    if not out_dir.is_dir():
        raise ConfigError(f"{out_dir} is not a folder; give the out_dir of the run that was killed")
    made = []
    for part in sorted(out_dir.glob(f"*{SUFFIX}")):
        if part.is_dir() and (part / JOURNAL).is_file():
            made.append(recover_ctc(part))
        elif is_left_behind(part):
            made.append(recover_whole_file(_writer_of(part), part))
    return [path for path in made if path is not None]


def _writer_of(part: Path) -> type[WholeFileWriter]:
    suffix = part.with_suffix("").suffix
    if suffix == ".parquet":
        from trackd.outputs.formats.parquet_table import ParquetWriter

        check_outputs(["parquet"])
        return ParquetWriter
    if suffix == ".slp":
        from trackd.outputs.formats.slp import SlpWriter

        return SlpWriter
    raise ConfigError(f"{part} is no part of an output of trackd's")
