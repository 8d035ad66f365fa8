"""How far the output files of open streams are written: with a journal, a restart continues them from there.

One small file per stream, in the `outputs` folder of the state folder. It is replaced as a whole, and may be older than
the output files: a restart cuts them to the stored positions, and writes the frames after it again, from the journal.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from trackd.crash_points import crash_point
from trackd.outputs.writer import Position

logger = logging.getLogger(__name__)

_SUFFIX = ".position"
_VERSION = 1
_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class StoredFile:
    """How far one file is written."""

    seq: int  # of the last frame in it; −1: none
    position: Position


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """How far the files of one stream are written."""

    opening: int  # the epoch in which the stream was opened; a stream that is opened again has another
    files: Mapping[str, StoredFile] = field(default_factory=dict)  # by format

    @property
    def seq(self) -> int:
        """Every frame up to this seq is in every file."""
        return min((file.seq for file in self.files.values()), default=-1)


class Positions:
    """The positions of all streams.

    Args:
        state_dir: the folder of the journal. It exists as long as the journal is open.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "outputs"
        self._saved: dict[str, bytes] = {}  # by stream, for a folder that is removed while the daemon runs

    def get(self, stream: str, opening: int) -> StoredFiles | None:
        """The positions of a stream's files; None where there are none of this opening."""
        stored = self._read(self._path(stream))
        return stored if stored is not None and stored.opening == opening else None

    def save(self, stream: str, stored: StoredFiles) -> None:
        """Replace the positions of a stream's files; on return they survive a kill of the process.

        Raises:
            OSError: they cannot be written; the earlier ones remain.
        """
        files = {kind: [file.seq, dict(file.position)] for kind, file in stored.files.items()}
        payload: bytes = msgpack.packb({"version": _VERSION, "opening": stored.opening, "files": files})
        crash_point("before_position")
        try:
            self._write(stream, payload)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # not its parents: the state folder may not be mounted
            for other, saved in self._saved.copy().items():
                self._write(other, saved)
            self._write(stream, payload)
        self._saved[stream] = payload
        crash_point("after_position")

    def remove(self, stream: str) -> None:
        """Delete the positions of a stream whose files are finished."""
        self._saved.pop(stream, None)
        crash_point("before_position_removed")
        self._path(stream).unlink(missing_ok=True)

    def streams(self) -> Iterator[tuple[str, StoredFiles]]:
        """The streams that have positions, and these."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            stored = self._read(path)
            if stored is not None:
                yield path.name.removesuffix(_SUFFIX), stored

    def _path(self, stream: str) -> Path:
        return self._folder / f"{stream}{_SUFFIX}"

    def _write(self, stream: str, payload: bytes) -> None:
        path = self._path(stream)
        temporary = path.with_name(f".{path.name}")
        temporary.write_bytes(zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little") + payload)
        temporary.replace(path)

    @staticmethod
    def _read(path: Path) -> StoredFiles | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        payload = data[_CHECKSUM_BYTES:]
        try:
            if zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little") != data[:_CHECKSUM_BYTES]:
                raise ValueError("its checksum does not match")
            values = msgpack.unpackb(payload)
            if values["version"] != _VERSION:
                raise ValueError(f"it is of version {values['version']}")
            files = {kind: StoredFile(seq, position) for kind, (seq, position) in values["files"].items()}
            return StoredFiles(values["opening"], files)
        except (ValueError, KeyError, TypeError) as error:
            logger.error("%s cannot be used: %s; new output files begin", path, error)
            return None
