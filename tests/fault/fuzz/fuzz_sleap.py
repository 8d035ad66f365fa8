"""Fuzz target: SLEAP files, which take longer than all others. A file is played, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
import sleap_io
from fuzz_harness import check_text, work_folder
from fuzz_recordings import play
from recording_files import make_skeleton, make_slp, predicted, user

from trackd_client.recordings.recording import RecordingError

PACKAGES = ["trackd_client.recordings"]
MOST_MS = 2000
MOST_MB = 64
WORDS = (b"\xff\xff\xff\xff", b"TREE", b"SNOD", b"HEAP", b"\0\0\0\0\0\0\0\1", b"frames", b"instances", b"json")
FOLDER = work_folder()
RAW, REPLACED = 0, 1  # the first byte of an input: a file, or numbers that replace some of a valid file
VALUES: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 255, 256, 10_000, 2**31, 2**32 - 1, 2**53, 2**63 - 1)
TABLES = ("frames", "instances", "points", "pred_points")


def seeds() -> Iterator[bytes]:
    """A small file, and replaced numbers in each table."""
    yield bytes([RAW]) + _valid()
    for table in range(3):
        yield bytes([REPLACED, table, 2, 0, 5, table, 7, 1, 9])


def run(data: bytes) -> None:
    """Write the file, and play it."""
    body = data[1:]
    (FOLDER / "a.slp").write_bytes(_replaced(body) if data and data[0] % 2 == REPLACED else body)
    try:
        play(FOLDER, {"slp_files": ["a.slp"]})
    except RecordingError as error:
        check_text(error)


_VALID: list[bytes] = []


def _valid() -> bytes:
    if not _VALID:
        worm, track = make_skeleton(), sleap_io.Track(name="a")
        frames = {
            0: [user(worm, [[1, 1], [2, 2]], track), predicted(worm, [[3, 3], [np.nan, np.nan]], score=0.5)],
            3: [user(worm, [[1, 1], [2, 2]], track)],
        }
        _VALID.append(make_slp(FOLDER / "seed.slp", frames, tracks=[track]).read_bytes())
    return _VALID[0]


def _replaced(edits: bytes) -> bytes:
    """The valid file with other numbers: an edit has a byte each for table, column, row and value."""
    path = FOLDER / "replaced.slp"
    path.write_bytes(_valid())
    with h5py.File(path, "a") as file:
        for at in range(0, min(len(edits) - 3, 64), 4):
            table = file[TABLES[edits[at] % len(TABLES)]]
            if not len(table):
                continue
            rows = table[()]
            names = rows.dtype.names
            column, value = rows[names[edits[at + 1] % len(names)]], VALUES[edits[at + 3] % len(VALUES)]
            column[edits[at + 2] % len(rows)] = np.array(value).astype(column.dtype)
            table[...] = rows
    return path.read_bytes()
