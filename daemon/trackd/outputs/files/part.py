"""The part file: it holds the frames of an open output whose format can only be written whole, at close.

`<file>.part` is a sequence of blocks. The first block describes the stream, each later one is a frame. Just before the
finished file gets its name, a last block is added that identifies it: a part that is found beside that file was
finished, and is only left to be deleted.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.files.blocks import block, block_ends, blocks
from trackd.outputs.records import ARRAYS, OutputRecord, StreamInfo
from trackd_client.configuration import ConfigError
from trackd_client.detections import Skeleton

logger = logging.getLogger(__name__)

SUFFIX = ".part"
_VERSION = 1


class PartFile:
    """A part file that is open for appending; it is locked, so that no second process writes the same output.

    Args:
        path: the part.
        stream: that it belongs to.
        start: continue the part from there, as `end` gave it; None: it must not exist.

    Raises:
        ConfigError: another process writes it.
        LostFileError: the part to be continued is missing, or is not as it was left.
    """

    def __init__(self, path: Path, stream: StreamInfo, start: Mapping[str, Any] | None = None) -> None:
        self.path = path
        try:
            self._file = AppendFile(path, block({"version": _VERSION, **stream_map(stream)}), start)
        except BlockingIOError:
            raise ConfigError(f"{path} is being written by another process; give one of them another out_dir") from None

    @property
    def end(self) -> dict[str, Any]:
        """The end of its last frame, for `start`."""
        return self._file.end

    def append(self, record: OutputRecord) -> None:
        """Add one frame, without its masks; on return the operating system has it, so it survives a kill.

        Raises:
            OSError: the frame cannot be written. Nothing of it was written, and the call may be repeated.
        """
        self._file.append(block(_record_map(record)))

    def restore(self) -> None:
        """Make the file exist at its path, with whole frames only; raises OSError where that fails."""
        self._file.restore()

    def mark_finished(self, finished: Path) -> None:
        """Add the block that identifies the finished file, before that gets its final name."""
        self._file.append(block({"finished": _identity(finished)}))

    def close(self) -> None:
        """Close the file and unlock it."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file, after the finished file got its name."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Whether a part exists that no living process writes."""
    if not path.is_file():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)  # a process that is being started may have a copy of the handle
        except BlockingIOError:
            return False
        except OSError:  # a network file system without locks
            return True
    return True


def is_finished(path: Path, finished: Path) -> bool:
    """Whether a part was finished already, as this file; the kill came before the part was deleted."""
    marks = [found["finished"] for found in _maps(path) if "finished" in found]
    return bool(marks) and finished.exists() and marks[-1] == _identity(finished)


def whole_end(path: Path) -> dict[str, Any]:
    """The end of a part's last whole block, as `start` of a `PartFile`."""
    with path.open("rb") as file:
        return {"bytes": max(block_ends(file), default=0)}


def read_stream(path: Path) -> StreamInfo | None:
    """The stream that a part belongs to; None where its block is incomplete."""
    first = next(_maps(path), None)
    if first is None or first.get("version") != _VERSION:
        return None
    skeleton = first["skeleton"]
    shape = first["frame_shape"]
    return StreamInfo(
        name=first["name"],
        skeleton=None if skeleton is None else Skeleton(tuple(skeleton[0]), tuple((a, b) for a, b in skeleton[1])),
        source=first["source"],
        frame_shape=None if shape is None else tuple(shape),
        fps=first["fps"],
    )


def read_records(path: Path) -> Iterator[OutputRecord]:
    """The frames of a part, in the order they were written; only one is in memory at a time."""
    maps = _maps(path)
    next(maps, None)
    for frame in maps:
        if "finished" in frame:
            continue
        arrays: dict[str, Any] = {name: _array(frame[name]) for name in ARRAYS if name in frame}
        yield OutputRecord(
            frame["frame_index"],
            frame["t_ns"],
            parents=dict(frame["parents"]),
            names=dict(frame.get("names", ())),
            corrections=tuple(frame.get("corrections", ())),
            merged_tracks=tuple(frame.get("merged_tracks", ())),
            merged_rows=tuple(frame.get("merged_rows", ())),
            **arrays,
        )


def _maps(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        whole = 0
        for value, end in blocks(file):
            whole = end
            yield value
        if whole < path.stat().st_size:
            logger.warning("%s: its last frame is incomplete and is left out", path)


def _identity(finished: Path) -> list[int]:
    """What stays the same of a file when it is renamed."""
    stat = finished.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def stream_map(stream: StreamInfo) -> dict[str, Any]:
    """The description of a stream as plain values."""
    skeleton = stream.skeleton
    return {
        "name": stream.name,
        "skeleton": None if skeleton is None else [list(skeleton.nodes), [list(edge) for edge in skeleton.edges]],
        "source": stream.source,
        "frame_shape": None if stream.frame_shape is None else list(stream.frame_shape),
        "fps": stream.fps,
    }


def _record_map(record: OutputRecord) -> dict[str, Any]:
    frame: dict[str, Any] = {
        "frame_index": record.frame_index,
        "t_ns": record.t_ns,
        "parents": [[child, parent] for child, parent in record.parents.items()],
    }
    if record.names:
        frame["names"] = [[track_id, given] for track_id, given in record.names.items()]
    if record.corrections:
        frame["corrections"] = [dict(correction) for correction in record.corrections]
    if record.merged_tracks:
        frame["merged_tracks"], frame["merged_rows"] = list(record.merged_tracks), list(record.merged_rows)
    for name in ARRAYS:
        array = getattr(record, name)
        if array is not None:
            frame[name] = [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]
    return frame


def _array(packed: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, data = packed
    return np.frombuffer(data, dtype).reshape(shape)
