"""The part file: every frame as it comes, for formats that can only be written whole.

`<file>.part` is a row of blocks, each its payload's length and CRC-32 (`<II`) and the payload, a MessagePack map:
the stream first, then the frames. A block that was cut short by a kill ends the file; what stands before it counts.
"""

from __future__ import annotations

import fcntl
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from trackd.outputs.files.append_file import AppendFile
from trackd.outputs.records import ARRAYS, OutputRecord, StreamInfo
from trackd_client.configuration import ConfigError
from trackd_client.detections import Skeleton

logger = logging.getLogger(__name__)

SUFFIX = ".part"
_HEAD = struct.Struct("<II")
_VERSION = 1


class PartFile:
    """Appends frames, and gives them back.

    Locked while open: a second process that would write the same output is told so.

    Raises:
        ConfigError: another process writes it.
    """

    def __init__(self, path: Path, stream: StreamInfo) -> None:
        self.path = path
        try:
            self._file = AppendFile(path, _block(_stream_map(stream)), lock=True)
        except BlockingIOError:
            raise ConfigError(f"{path} is being written by another process; give one of them another out_dir") from None

    def append(self, record: OutputRecord) -> None:
        """Add one frame, without its masks; on return it is the system's, and outlives this process.

        Raises:
            OSError: it cannot be written; nothing of it is there, and it may be given again.
        """
        self._file.append(_block(_record_map(record)))

    def heal(self) -> None:
        """Have it be where it belongs, with whole frames only; raises OSError where it cannot be."""
        self._file.heal()

    def close(self) -> None:
        """Close it, and let others have it."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete it, once the final file stands."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def is_left_behind(path: Path) -> bool:
    """Whether a part is there that no living process writes."""
    if not path.is_file():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def read_stream(path: Path) -> StreamInfo | None:
    """The stream that a part belongs to; None where not even that was written."""
    first = next(_blocks(path), None)
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
    """The frames of a part, in the order they were written; one at a time in memory."""
    blocks = _blocks(path)
    next(blocks, None)
    for block in blocks:
        arrays = {name: _array(block[name]) for name in ARRAYS if name in block}
        yield OutputRecord(block["frame_index"], block["t_ns"], parents=dict(block["parents"]), **arrays)


def _blocks(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            size, checksum = _HEAD.unpack(head)
            payload = file.read(size)
            if len(payload) < size or zlib.crc32(payload) != checksum:
                logger.warning("%s: its last frame was cut short and is left out", path)
                return
            yield msgpack.unpackb(payload)


def _block(value: dict[str, Any]) -> bytes:
    payload: bytes = msgpack.packb(value)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _stream_map(stream: StreamInfo) -> dict[str, Any]:
    skeleton = stream.skeleton
    return {
        "version": _VERSION,
        "name": stream.name,
        "skeleton": None if skeleton is None else [list(skeleton.nodes), [list(edge) for edge in skeleton.edges]],
        "source": stream.source,
        "frame_shape": None if stream.frame_shape is None else list(stream.frame_shape),
        "fps": stream.fps,
    }


def _record_map(record: OutputRecord) -> dict[str, Any]:
    block: dict[str, Any] = {
        "frame_index": record.frame_index,
        "t_ns": record.t_ns,
        "parents": [[child, parent] for child, parent in record.parents.items()],
    }
    for name in ARRAYS:
        array = getattr(record, name)
        if array is not None:
            block[name] = [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]
    return block


def _array(packed: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, data = packed
    return np.frombuffer(data, dtype).reshape(shape)
