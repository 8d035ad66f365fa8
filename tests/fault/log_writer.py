"""Writes frames to a journal as a daemon does, and prints the seq of each that is stored.

    python log_writer.py FOLDER N

`TRACKD_CRASH_AT` kills it. Every third round moves the frames of the frame log to SQLite.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from trackd.store.database import Database
from trackd.store.records import FrameRecord, OpenRecord


def main(folder: str, n: str) -> None:
    database = Database(Path(folder) / "journal.sqlite", False, 1 << 30, 1000)
    seqs = {stored.opened.stream: stored.last_seq for stored in database.streams()}
    if not seqs:
        database.write([OpenRecord("cam", 1, 0, {"settings": {}})])
    first = seqs.get("cam", -1) + 1
    for seq in range(first, first + int(n)):
        record = FrameRecord("cam", 1, seq, seq, seq, "tracked", None, {"boxes": np.full(100_000, seq % 256, np.uint8)})
        database.prepare_log()
        if not database.append([record]):
            database.write([record])
        print(seq, flush=True)
        if seq % 3 == 0:
            database.move()
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
