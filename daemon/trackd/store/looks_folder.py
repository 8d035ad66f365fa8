"""The looks of streams, over a restart: one file per stream, in the `looks` folder of the state folder.

A file is replaced as a whole, and belongs to one epoch. It may be older than the journal, never newer. Nothing depends
on it but what is found of animals later: where it is missing or cannot be used, they are learnt anew.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from trackd.crash_points import crash_point
from trackd.identity.looks import Looks, read_looks

logger = logging.getLogger(__name__)

_SUFFIX = ".looks"
_PART = ".part"  # after the suffix, of a file that is being written


class LooksFolder:
    """The files of looks.

    Args:
        state_dir: the folder of the journal. It exists as long as the journal is open.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "looks"

    def read(self, stream: str, epoch: int) -> Looks | None:
        """Read the looks of a stream in an epoch; None where there are none. A file that cannot be used is logged."""
        path = self._path(stream)
        try:
            found = read_looks(path)
            if found.stream != stream:
                raise ValueError(f"it is of stream {found.stream!r}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            report(stream, f"{path} cannot be used: {error}")
            return None
        return found if found.epoch == epoch else None

    def write(self, looks: Looks) -> int:
        """Replace the file of a stream; return its bytes. On return it survives a kill of the process.

        Raises:
            OSError, ValueError: it cannot be written, or is too large; an earlier file remains.
        """
        data = looks.to_bytes()
        path = self._path(looks.stream)
        self.path.mkdir(mode=0o700, exist_ok=True)  # not its parents: the state folder may not be mounted
        temporary = path.with_name(path.name + _PART)
        temporary.write_bytes(data)
        crash_point("before_looks")
        temporary.replace(path)
        crash_point("after_looks")
        return len(data)

    def remove(self, stream: str) -> None:
        """Delete the file of a stream.

        Raises:
            OSError: it cannot be deleted.
        """
        self._path(stream).unlink(missing_ok=True)

    def keep_only(self, streams: Collection[str]) -> None:
        """Delete the files of all other streams, and what a killed daemon had not finished."""
        kept = {self._path(stream).name for stream in streams}
        for path in sorted([*self.path.glob(f"*{_SUFFIX}"), *self.path.glob(f"*{_SUFFIX}{_PART}")]):
            if path.name not in kept:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    logger.warning("%s cannot be deleted: %s", path, error)

    def _path(self, stream: str) -> Path:
        return self.path / f"{stream}{_SUFFIX}"


def report(stream: str, reason: str) -> None:
    """Log that what was learnt of a stream's animals is not used."""
    logger.error("stream=%s: the looks of its animals are learnt anew: %s", stream, reason)
