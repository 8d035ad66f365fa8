"""Fuzz target: the journal. A valid one is changed on disk, and then starts, or is refused with a `ConfigError`."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from fuzz_harness import check_text, work_folder

from trackd.store.database import Database
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord
from trackd_client.configuration import ConfigError

PACKAGES = ["trackd.store"]
MOST_MS = 1000
MOST_MB = 64
WORDS = (b"\0\0", b"\xff\xff", b"\x00\x10\x00\x00", b"__array__", b"\x93", b"<f4", b"|O")
FOLDER = work_folder()
EDIT = struct.Struct(">BBHHB")  # which file, what, where (scaled to the file), how long or by how much, a byte
MOST_EDITS = 16


def seeds() -> Iterator[bytes]:
    """One change of each kind to each file, at some places."""
    yield b""
    for file in range(3):
        for what in range(6):
            for where in (0, 20, 8000, 30_000, 65_000):
                yield EDIT.pack(file, what, where, 40, 0xA5)


def run(data: bytes) -> None:
    """Change a copy of the journal, open it, read all streams, write to it, and read it again."""
    folder = FOLDER / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_valid(), folder)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for at in range(0, min(len(data), EDIT.size * MOST_EDITS) - EDIT.size + 1, EDIT.size):
        _edit(files, *EDIT.unpack_from(data, at))
    try:
        for _ in range(2):
            database = _opened(folder)
            try:
                for stored in database.streams():
                    assert all(frame.stream == stored.opened.stream for frame in stored.frames)
                with contextlib.suppress(sqlite3.Error):  # documented: nothing of the batch is written
                    database.write(_records("later", 3))
            finally:
                database.close()
    except ConfigError as error:
        check_text(error)


def _edit(files: list[Path], file: int, what: int, where: int, size: int, byte: int) -> None:
    """Change one file: its bytes, its length, or its name."""
    path = files[file % len(files)]
    if not path.exists():
        return
    data = bytearray(path.read_bytes())
    at = where * len(data) // 65_536
    match what % 6:
        case 0:  # flip bits
            data[at : at + 1] = bytes([data[at] ^ (byte or 1)]) if at < len(data) else b""
        case 1:  # write over
            data[at : at + size] = bytes([byte]) * len(data[at : at + size])
        case 2:  # cut
            del data[at:]
        case 3:  # take out
            del data[at : at + size]
        case 4:  # copy to another place
            piece = data[at : at + size]
            to = byte * len(data) // 256
            data[to : to + len(piece)] = piece
        case 5 if byte >= 250:  # remove the file
            path.unlink()
            return
        case 5:  # put something in
            data[at:at] = bytes([byte]) * size
    path.write_bytes(bytes(data))


_VALID: list[Path] = []


def _valid() -> Path:
    """A journal of two streams as a killed daemon leaves it: some records in the file, some in its log."""
    if not _VALID:
        folder = FOLDER / "written"
        database = _opened(folder)
        database.write(_records("a", 6))
        database.fold()
        database.write([*_records("b", 3), *_records("closed", 1), CloseRecord("closed")])
        copied = FOLDER / "valid"
        shutil.copytree(folder, copied)  # before the close, which would empty the log
        database.close()
        _VALID.append(copied)
    return _VALID[0]


def _opened(folder: Path) -> Database:
    folder.mkdir(parents=True, exist_ok=True)
    return Database(folder / "journal.sqlite", sync=False, max_bytes=1 << 24, history_frames=4)


def _records(stream: str, n: int) -> list[Record]:
    body = {"boxes": np.ones((2, 4), np.float32), "track_ids": np.array([0, 1]), "words": ["a", None, 1.5]}
    frames = [FrameRecord(stream, 1_700_000_000, seq, seq, seq * 1000, "tracked", None, body) for seq in range(n)]
    opened = {"config": {"stream": {"history_frames": 4}}, "skeleton": None, "frame_shape": [4, 6], "model": None}
    state = {"next_id": 2, "window": {"boxes": np.zeros((2, 3, 4), np.float32)}}
    return [OpenRecord(stream, 1_700_000_000, 0, opened), SnapshotRecord(stream, 1_700_000_000, 0, state), *frames]
