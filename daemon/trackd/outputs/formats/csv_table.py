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

    Numbers have the fewest digits that read back as the same float; a missing value is an empty cell. A node's name
    that a spreadsheet program would run as a formula gets an apostrophe before it. Where the stream has no skeleton,
    the first instance shows the nodes. If it has any, the rows of the empty frames before it get cells for them then:
    they are written again, once.
    """

    suffix = ".csv"
    encoding = "utf-8"

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        self._stream = stream
        nodes = None if position is None else position.get("nodes")
        self._nodes: tuple[str, ...] | None = None if nodes is None else tuple(nodes)
        self._n_empty = 0  # rows before the first instance, while it is not known which nodes have columns
        if position is not None and nodes is None:
            self._n_empty = position.get("rows", 0)
            position = self._narrow(out_dir / f"{stream.name}{self.suffix}")
        super().__init__(out_dir, stream, position)

    def _narrow(self, path: Path) -> Position:
        """Write the rows of the empty frames again, without cells for nodes, and return the end of the file."""
        if not self._n_empty:
            return {}
        file = rewritten(path, [_lines([_header(()), *_empty_rows(path, self._n_empty)]).encode(self.encoding)])
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
            self.append(_rows(record, self._nodes))
        elif len(record.track_ids) or self._stream.skeleton is not None:
            self._begin(record)
        else:
            # Without an instance the row is the same for any nodes, but for the number of its empty cells.
            head = "" if self._n_empty else _lines([_header(())])
            self.append(head + _rows(record, ()))
            self._n_empty += 1

    def _begin(self, record: OutputRecord | None) -> None:
        """Write the first record that shows the nodes; None: there is none."""
        nodes = table.node_names(self._stream, record)
        rows = "" if record is None else _rows(record, nodes)
        head = _lines([_header(nodes)])
        if not self._n_empty:
            self.append(head + rows)
        elif nodes:
            cells = "," * (len(table.column_names(nodes)) - len(table.FIXED))
            earlier = (f"{','.join(row)}{cells}\n" for row in _empty_rows(self.path, self._n_empty))
            crash_point("before_rewrite")
            self._file.replace(text.encode(self.encoding) for text in itertools.chain([head], earlier, [rows]))
            crash_point("after_rewrite")
        else:
            self.append(rows)
        self._nodes = nodes

    def position(self) -> Position:
        """Where the file ends, and which nodes have columns; before that is known, the number of rows."""
        if self._nodes is None:
            return {"nodes": None, "rows": self._n_empty}
        return {**super().position(), "nodes": list(self._nodes)}

    def close(self) -> None:
        """Finish the file."""
        try:
            if self._nodes is None and not self._file.closed:
                self._begin(None)
        finally:
            super().close()


def _empty_rows(path: Path, n: int) -> Iterator[list[str]]:
    """The first `n` rows of a table, cut to the columns that every table has; the rows are those of empty frames.

    Raises:
        LostFileError: the table has fewer.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in itertools.islice(csv.reader(file), 1, n + 1):
                if len(row) >= len(table.FIXED):
                    n -= 1
                    yield row[: len(table.FIXED)]
    except (FileNotFoundError, NotADirectoryError):
        raise LostFileError(f"{path} is missing") from None
    if n:
        raise LostFileError(f"{path} is not as it was left")


def _header(nodes: tuple[str, ...]) -> list[str]:
    return [escaped(name) for name in table.column_names(nodes)]


def _rows(record: OutputRecord, nodes: tuple[str, ...]) -> str:
    cells = [_texts(column) for column in table.columns(record, len(nodes))]
    return _lines(zip(*cells, strict=True))


def _texts(column: table.Column) -> list[str]:
    # The shortest text that reads back as the same float. Python's `str` is the fastest, but for 64 bits only.
    values = column if column.dtype == np.float32 else column.tolist()
    return ["" if value != value else str(value) for value in values]


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
