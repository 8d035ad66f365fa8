"""CSV tables, appended frame by frame."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trackd.crash_points import crash_point
from trackd.outputs.files.append_file import LostFileError, rewritten
from trackd.outputs.files.line_file import LineWriter
from trackd.outputs.formats import table
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position
from trackd_client.recordings.labels.spreadsheet_text import escaped


class CsvWriter(LineWriter):
    """Writes `<out_dir>/<name>.csv`; after a kill the file is shorter.

    Numbers have the fewest digits that read back as the same float; a missing value is an empty cell. The name of a
    node or a track that a spreadsheet program would run as a formula gets an apostrophe before it. Where the stream
    has no skeleton, the first instance shows the nodes. If it has any, the rows of the empty frames before it get
    cells for them then: they are written again, once.
    """

    suffix = ".csv"
    encoding = "utf-8"

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        self._stream = stream
        nodes = None if position is None else position.get("nodes")
        self._nodes: tuple[str, ...] | None = None if nodes is None else tuple(nodes)
        # A file that was begun without the columns about tracks, by an earlier version, is continued without them.
        self._n_about = position.get("about", 0) if position else len(table.ABOUT_TRACKS)
        self._n_empty = 0  # rows before the first instance, while it is not known which nodes have columns
        if position is not None and nodes is None:
            self._n_empty = position.get("rows", 0)
            position = self._narrow(out_dir / f"{stream.name}{self.suffix}")
        super().__init__(out_dir, stream, position)

    def _narrow(self, path: Path) -> Position:
        """Write the rows of the empty frames again, without cells for nodes, and return the end of the file."""
        if not self._n_empty:
            return {}
        rows = ([*first, *about] for first, about in self._empty_rows(path))
        file = rewritten(path, [_lines([self._header(()), *rows]).encode(self.encoding)])
        try:
            return file.end
        finally:
            file.close()

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed.
        """
        if self._nodes is not None:
            self.append(self._rows(record, self._nodes))
        elif len(record.track_ids) or self._stream.skeleton is not None:
            self._begin(record)
        else:
            # Without an instance the row is the same for any nodes, but for the number of its empty cells.
            head = "" if self._n_empty else _lines([self._header(())])
            self.append(head + self._rows(record, ()))
            self._n_empty += 1

    def _begin(self, record: OutputRecord | None) -> None:
        """Write the first record that shows the nodes; None: there is none."""
        nodes = table.node_names(self._stream, record)
        rows = "" if record is None else self._rows(record, nodes)
        head = _lines([self._header(nodes)])
        if not self._n_empty:
            self.append(head + rows)
        elif nodes:
            cells = [""] * (len(self._header(nodes)) - len(self._header(())))
            earlier = (_lines([[*first, *cells, *about]]) for first, about in self._empty_rows(self.path))
            crash_point("before_rewrite")
            self._file.replace(text.encode(self.encoding) for text in itertools.chain([head], earlier, [rows]))
            crash_point("after_rewrite")
        else:
            self.append(rows)
        self._nodes = nodes

    def position(self) -> Position:
        """Where the file ends, and which nodes have columns; before that is known, the number of rows."""
        if self._nodes is None:
            return {"nodes": None, "rows": self._n_empty, "about": self._n_about}
        return {**super().position(), "nodes": list(self._nodes), "about": self._n_about}

    def close(self) -> None:
        """Finish the file."""
        try:
            if self._nodes is None and not self._file.closed:
                self._begin(None)
        finally:
            super().close()

    def _header(self, nodes: tuple[str, ...]) -> list[str]:
        return [escaped(name) for name in self._kept(table.column_names(nodes))]

    def _rows(self, record: OutputRecord, nodes: tuple[str, ...]) -> str:
        cells = [_texts(column) for column in self._kept(table.columns(record, len(nodes)))]
        return _lines(zip(*cells, strict=True))

    def _kept(self, columns: list[Any]) -> list[Any]:
        """The columns of this file, of all."""
        return columns[: len(columns) - len(table.ABOUT_TRACKS) + self._n_about]

    def _empty_rows(self, path: Path) -> Iterator[tuple[list[str], list[str]]]:
        """The rows of the empty frames: their cells before those of nodes, and their cells behind those.

        Raises:
            LostFileError: the table has fewer rows.
        """
        left = self._n_empty
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in itertools.islice(csv.reader(file), 1, left + 1):
                    if len(row) >= len(table.FIXED) + self._n_about:
                        left -= 1
                        yield row[: len(table.FIXED)], row[len(row) - self._n_about :]
        except (FileNotFoundError, NotADirectoryError):
            raise LostFileError(f"{path} is missing") from None
        if left:
            raise LostFileError(f"{path} is not as it was left")


def _texts(column: table.Column) -> list[str]:
    if column.dtype == object:
        return ["" if text is None else escaped(text) for text in column]
    # The shortest text that reads back as the same float. Python's `str` is the fastest, but for 64 bits only.
    values = column if column.dtype == np.float32 else column.tolist()
    return ["" if value != value else str(value) for value in values]


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
