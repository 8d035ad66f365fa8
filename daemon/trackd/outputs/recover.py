"""`trackd outputs recover`: the files of processes that were killed, made of the parts that remain."""

from __future__ import annotations

from pathlib import Path

from trackd.output_formats import WRITERS, check_outputs
from trackd.outputs.files.part import SUFFIX, is_abandoned
from trackd.outputs.writer import writer_class
from trackd_client.configuration import ConfigError


def recover(out_dir: Path) -> list[Path]:
    """Finish every part in a folder that no living process writes; return the files that were made.

    Raises:
        ConfigError: no such folder, a part of no known format, or a package that a part's format needs is not
            installed.
    """
    if not out_dir.is_dir():
        raise ConfigError(f"{out_dir} is not a folder; give the out_dir of the run that was killed")
    made = []
    for part in sorted(out_dir.glob(f"*{SUFFIX}")):
        kind = next((kind for kind in WRITERS if writer_class(kind).is_part(part)), None)
        if kind is not None:
            check_outputs([kind])
            made.append(writer_class(kind).recover(part))
        elif is_abandoned(part):
            raise ConfigError(f"{part} is not a part of any output format of trackd; move it to another folder")
    return [path for path in made if path is not None]
