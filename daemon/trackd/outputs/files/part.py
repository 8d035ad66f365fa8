"""The part file: it holds the frames of an open output whose format can only be written whole, at close.

`<file>.part` is a sequence of blocks. A block is the length and the CRC-32 of its payload (`<II`), then the payload,
a MessagePack map. The first block describes the stream, each later one is a frame. A kill may cut the last block
short; the reader leaves it out and returns the blocks before it.
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
    """A part file that is open for appending; it is locked, so that no second process writes the same output.

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
        """Add one frame, without its masks; on return the operating system has it, so it survives a kill.

        Raises:
            OSError: the frame cannot be written. Nothing of it was written, and the call may be repeated.
        """
        self._file.append(_block(_record_map(record)))

    def restore(self) -> None:
        """Make the file exist at its path, with whole frames only; raises OSError where that fails."""
        self._file.restore()

    def close(self) -> None:
        """Close the file and unlock it."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file, after the final file was written."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Whether a part exists that no living process writes."""
    if not path.is_file():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def read_stream(path: Path) -> StreamInfo | None:
    """The stream that a part belongs to; None where its block is incomplete."""
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
    """The frames of a part, in the order they were written; only one is in memory at a time."""
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
                logger.warning("%s: its last frame is incomplete and is left out", path)
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
