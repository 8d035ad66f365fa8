"""Tables of separated values, with row numbers for error texts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trackd_client.recordings.labels.spreadsheet_text import unescaped
from trackd_client.recordings.limits import MAX_WHOLE
from trackd_client.recordings.recording import RecordingError

# Cells without a value: TrackMate's ø (in UTF-8, and in UTF-8 read as Latin-1), and those of other programs.
NO_VALUE = frozenset({"", "ø", "Ã¸", "None", "NaN", "nan", "NA"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, by column name."""

    path: Path
    number: int  # in the file, in which the header is row 1
    values: dict[str, str]

    @property
    def where(self) -> str:
        """The file and the row, for error texts."""
        return f"{self.path}, row {self.number}"

    def text(self, column: str) -> str | None:
        """The cell's text, or None if it has no value."""
        value = self.values.get(column, "").strip()
        return None if value in NO_VALUE else value

    def real(self, column: str, default: float | None = None) -> float:
        """A finite number.

        Raises:
            RecordingError: the cell has no value and there is no default, or its value is another.
        """
        text = self.text(column)
        if text is None and default is not None:
            return default
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RecordingError(f"{self.where}: {column} must be a number; got {self.values.get(column, '')!r}")
        return value

    def whole(self, column: str, default: int | None = None, *, least: int = 0) -> int:
        """A whole number from `least` to 2⁵³, which may be written as 3.0.

        Raises:
            RecordingError: the cell has no value and there is no default, or its value is another.
        """
        value = self.real(column, default)
        if value != default and (not value.is_integer() or value < least):
            raise RecordingError(f"{self.where}: {column} must be a whole number ≥ {least}; got {value:g}")
        if value > MAX_WHOLE:
            raise RecordingError(f"{self.where}: {column} must be at most 2⁵³; got {value:g}")
        return int(value)


def rows_of(path: Path) -> Iterator[list[str]]:
    """The rows of a table as text, the header first. Cells are separated by commas, semicolons or tabs.

    Names that trackd wrote with an apostrophe for spreadsheet programs are read without it.

    The encoding is UTF-8 if the file is valid UTF-8, else Latin-1, which can decode any file.

    Raises:
        RecordingError: the file cannot be read.
    """
    try:
        encoding = "utf-8-sig" if _is_utf8(path) else "latin-1"
        with path.open(encoding=encoding, newline="") as file:
            header = file.readline()
            separator = max(",;\t", key=header.count)
            file.seek(0)
            for cells in csv.reader(file, delimiter=separator):
                yield [unescaped(cell) for cell in cells]
    except (OSError, csv.Error) as error:
        raise RecordingError(f"{path}: cannot be read as a table: {error}") from None


def header_of(path: Path) -> list[str]:
    """The names of the columns; empty for an empty file.

    Raises:
        RecordingError: the file cannot be read.
    """
    return [name.strip() for name in next(rows_of(path), [])]


def numbered(path: Path, header: Sequence[str], rows: Iterator[list[str]], first: int) -> Iterator[Row]:
    """The rows that are not empty, by column name. `first` is the number of the first row.

    Raises:
        RecordingError: a row with fewer cells than the header.
    """
    for number, cells in enumerate(rows, start=first):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(header):
            raise RecordingError(
                f"{path}, row {number}: must have {len(header)} cells, as the header; got {len(cells)}"
            )
        yield Row(path, number, dict(zip(header, cells, strict=False)))


def _is_utf8(path: Path) -> bool:
    """Whether the file's bytes are UTF-8. It is read in pieces, because it may be large."""
    try:
        with path.open(encoding="utf-8") as file:
            while file.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return False
    return True
