"""The journal's table of settled frames.

Its rows lie by seq and then by stream: of cameras that were started together, the frames of one moment lie side by
side, and a commit of one frame of each writes a page or two, not one for each stream. So nothing here asks for all of
a stream's rows at once, which are all over the table, but for those of a range of seq, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trackd.store.journal_file import JournalFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, frame_index INTEGER NOT NULL,
    t_ns INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, body BLOB NOT NULL,
    PRIMARY KEY (seq, stream)
) WITHOUT ROWID;
"""
FROM_VERSION_1 = f"""
ALTER TABLE frames RENAME TO frames_by_stream;
{SCHEMA}
INSERT INTO frames SELECT * FROM frames_by_stream ORDER BY seq, stream;
DROP TABLE frames_by_stream;
"""

_AT_ONCE = (64, 8, 1)  # rows: few different statements, so that SQLite keeps them prepared
_INSERTS = {n: "INSERT OR REPLACE INTO frames VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * n) for n in _AT_ONCE}
_WHERE = {n: "WHERE stream = ? AND seq IN (" + ", ".join("?" * n) + ")" for n in _AT_ONCE}

Row = tuple[str, int, int, int, int, str, str | None, bytes]  # in the order of the table's columns


class FrameTable:
    """Reads and writes rows within the caller's transaction."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def insert(self, rows: Sequence[Row]) -> None:
        """Write frames, many in one statement: at each, other threads take the interpreter."""
        for chunk in _chunks(range(len(rows))):
            values = [value for row in rows[chunk.start : chunk.stop] for value in row]
            self._file.db.execute(_INSERTS[len(chunk)], values)

    def delete(self, stream: str, seqs: range) -> int:
        """Delete a stream's frames of a range; returns how many bytes their bodies had."""
        freed = 0
        for chunk in _chunks(seqs):
            query = f"DELETE FROM frames {_WHERE[len(chunk)]} RETURNING length(body)"
            freed += sum(size for (size,) in self._file.db.execute(query, (stream, *chunk)).fetchall())
        return freed

    def select(self, stream: str, seqs: range) -> Iterator[Row]:
        """A stream's frames of a range, by seq; some may be missing."""
        for chunk in _chunks(seqs):
            query = f"SELECT * FROM frames {_WHERE[len(chunk)]} ORDER BY seq"
            yield from self._file.db.execute(query, (stream, *chunk)).fetchall()

    def streams(self) -> Iterator[tuple[str, range, int]]:
        """Of each stream that has frames: between which seqs they lie, and the bytes of their bodies."""
        query = "SELECT stream, min(seq), max(seq), sum(length(body)) FROM frames GROUP BY stream"
        for stream, first, last, nbytes in self._file.db.execute(query).fetchall():
            yield stream, range(first, last + 1), nbytes


def _chunks(seqs: range) -> Iterator[range]:
    """A range in pieces of lengths that there are statements for."""
    for most in _AT_ONCE:
        while len(seqs) >= most:
            yield seqs[:most]
            seqs = seqs[most:]
