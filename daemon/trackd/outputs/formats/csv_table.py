"""CSV tables, appended frame by frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trackd.outputs.files.line_file import LineFile
from trackd.outputs.formats import table
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer
from trackd_client.recordings.labels.spreadsheet_text import escaped


class CsvWriter(Writer):
    """Writes `<out_dir>/<name>.csv`; after a kill the file is shorter, and valid.

    Numbers have the fewest digits that read back as the same float; a missing value is an empty cell. A node's name
    that a spreadsheet program would run as a formula gets an apostrophe before it.
    """

    def __init__(self, out_dir: Path, stream: StreamInfo) -> None:
        self.path = out_dir / f"{stream.name}.csv"
        self._stream = stream
        self._file = LineFile(self.path, "utf-8")
        self._nodes: tuple[str, ...] | None = None
        self._waiting: list[OutputRecord] = []  # empty frames before the first instance, which shows the nodes

    def write(self, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            ValueError: the writer is closed.
        """
        if self._nodes is None and not len(record.track_ids) and self._stream.skeleton is None:
            self._waiting.append(record)
            return
        self._begin(record)
        self._file.write(_rows(record, self._nodes or ()))

    def close(self) -> None:
        """Finish the file."""
        try:
            if not self._file.closed:
                self._begin(self._waiting[0] if self._waiting else None)
        finally:
            self._file.close()

    def _begin(self, record: OutputRecord | None) -> None:
        if self._nodes is None:
            nodes = table.node_names(self._stream, record)
            earlier = "".join(_rows(waiting, nodes) for waiting in self._waiting)
            names = [escaped(name) for name in table.column_names(nodes)]
            self._file.write(_lines([names]) + earlier)
            self._nodes, self._waiting = nodes, []  # after the write, so that a failed one can be repeated


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
