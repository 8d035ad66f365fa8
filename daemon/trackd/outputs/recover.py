"""`trackd outputs recover`: the files of processes that were killed, made of the parts that remain."""

from __future__ import annotations

import logging
from pathlib import Path

from trackd.output_formats import WRITERS, check_outputs
from trackd.outputs.files.part import SUFFIX, is_abandoned
from trackd.outputs.session_log import remove_logs
from trackd.outputs.writer import writer_class
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)


class UnfinishedError(Exception):
    """Some files could not be made of their parts. Its text is one line; the log names the reasons.

    Attributes:
        made: the other files.
    """

    def __init__(self, left: list[Path], made: list[Path]) -> None:
        super().__init__(f"could not be finished: {', '.join(map(str, left))}")
        self.made = made


def recover(out_dir: Path) -> list[Path]:
    """Finish every part in a folder that no living process writes; return the files that were made.

    The sessions of these files are over: a client that goes on gets new files.

    Raises:
        UnfinishedError: some files could not be made, all others were.
        ConfigError: no such folder, a part of no known format, or a package that a part's format needs is not
            installed.
    """
    if not out_dir.is_dir():
        raise ConfigError(f"{out_dir} is not a folder; give the out_dir of the run that was killed")
    made: list[Path | None] = []
    left = []
    for part in sorted(out_dir.glob(f"*{SUFFIX}")):
        kind = next((kind for kind in WRITERS if writer_class(kind).is_part(part)), None)
        if kind is not None:
            check_outputs([kind])
            try:
                made.append(writer_class(kind).recover(part))
            except Exception as error:
                left.append(part)
                logger.error("%s cannot be finished: %s", part, error, exc_info=not isinstance(error, OSError))
        elif is_abandoned(part):
            raise ConfigError(f"{part} is not a part of any output format of trackd; move it to another folder")
    done = [path for path in made if path is not None]
    if left:
        raise UnfinishedError(left, done)
    remove_logs(out_dir)
    return done
