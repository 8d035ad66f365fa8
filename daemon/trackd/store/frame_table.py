"""The journal's table of settled frames.

Its rows are sorted by seq and then by stream. So the frames of one moment, of cameras that started together, are
neighbours, and a commit with one frame of each camera writes one or two pages instead of one for each stream. The rows
of one stream are spread over the whole table, so each query here names the seqs of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trackd.store.journal_file import JournalFile

COLUMNS = "stream, seq, epoch, frame_index, t_ns, status, reason, link, checksum, body"

_CHUNKS = (64, 8, 1)  # rows of one statement; few different statements, so that SQLite keeps them prepared
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERTS = {n: f"INSERT OR REPLACE INTO frames ({COLUMNS}) VALUES " + ", ".join([_VALUES] * n) for n in _CHUNKS}
_WHERE = {n: "WHERE stream = ? AND seq IN (" + ", ".join("?" * n) + ")" for n in _CHUNKS}

# In the order of `COLUMNS`: the last three are the checksum of the stream's frame before it, its own, and the body.
Row = tuple[str, int, int, int, int, str, str | None, int, int, bytes]


class FrameTable:
    """Reads and writes rows in the caller's transaction."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def insert(self, rows: Sequence[Row]) -> None:
        """Write frames, up to 64 in one statement: at each statement other threads may take the interpreter lock."""
        for chunk in _chunks(range(len(rows))):
            values = [value for row in rows[chunk.start : chunk.stop] for value in row]
            self._file.db.execute(_INSERTS[len(chunk)], values)

    def delete(self, stream: str, seqs: range) -> int:
        """Delete a stream's frames of a range of seq; return the bytes of their bodies."""
        freed = 0
        for chunk in _chunks(seqs):
            query = f"DELETE FROM frames {_WHERE[len(chunk)]} RETURNING length(body)"
            freed += sum(size for (size,) in self._file.db.execute(query, (stream, *chunk)).fetchall())
        return freed

    def select(self, stream: str, seqs: range) -> Iterator[Row]:
        """Read a stream's frames of a range of seq, in that order; some may be missing."""
        for chunk in _chunks(seqs):
            query = f"SELECT {COLUMNS} FROM frames {_WHERE[len(chunk)]} ORDER BY seq"
            yield from self._file.db.execute(query, (stream, *chunk)).fetchall()

    def streams(self) -> Iterator[tuple[str, range, int]]:
        """Return for each stream with frames: its name, the range of their seqs, and the bytes of their bodies."""
        query = "SELECT stream, min(seq), max(seq), sum(length(body)) FROM frames GROUP BY stream"
        for stream, first, last, nbytes in self._file.db.execute(query).fetchall():
            yield stream, range(first, last + 1), nbytes


def _chunks(seqs: range) -> Iterator[range]:
    """Split a range into pieces of the lengths in `_CHUNKS`."""
    for length in _CHUNKS:
        while len(seqs) >= length:
            yield seqs[:length]
            seqs = seqs[length:]
