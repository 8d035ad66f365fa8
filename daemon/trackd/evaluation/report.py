"""The scores of an evaluation as a table, JSON and CSV."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from trackd.evaluation.cell_scores import CellScore
from trackd.evaluation.tracking_scores import TrackingScore
from trackd_client.recordings.labels.spreadsheet_text import escaped

ALL = "all"
Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Row:
    """The scores of a recording, or of all recordings together."""

    name: str
    frames: int
    tracking: TrackingScore
    sw_cnt: int
    cells: CellScore | None  # where the identities are cells
    seg: float | None  # where there are masks and reference masks

    def values(self) -> dict[str, Value]:
        """The values of the JSON and CSV files, by name."""
        score, cells = self.tracking, self.cells
        found: dict[str, Value] = {
            "recording": self.name,
            "frames": self.frames,
            "hota": score.hota,
            "deta": score.deta,
            "assa": score.assa,
            "idf1": score.idf1,
            "mota": score.mota,
            "id_switches": score.id_switches,
            "sw_cnt": self.sw_cnt,
            "fragmentations": score.fragmentations,
            "false_positives": score.false_positives,
            "false_negatives": score.false_negatives,
            "gt_detections": score.n_gt_detections,
            "gt_identities": score.n_gt,
            "tracks": score.n_tracks,
            "tra": None if cells is None else cells.tra,
            "det": None if cells is None else cells.det,
            "lnk": None if cells is None else cells.lnk,
            "seg": self.seg,
        }
        for name in ("found", "false", "missed", "precision", "recall", "f1"):
            found[f"divisions_{name}"] = None if cells is None else getattr(cells.divisions, name)
        return found


# Column of the table: its heading, its key, its format.
_COLUMNS = (
    ("recording", "recording", "s"),
    ("frames", "frames", "d"),
    ("HOTA", "hota", ".3f"),
    ("DetA", "deta", ".3f"),
    ("AssA", "assa", ".3f"),
    ("IDF1", "idf1", ".3f"),
    ("MOTA", "mota", ".3f"),
    ("IDSW", "id_switches", "d"),
    ("sw_cnt", "sw_cnt", "d"),
)
_CELL_COLUMNS = (
    ("recording", "recording", "s"),
    ("TRA", "tra", ".4f"),
    ("DET", "det", ".4f"),
    ("LNK", "lnk", ".4f"),
    ("SEG", "seg", ".4f"),
    ("found", "divisions_found", "d"),
    ("false", "divisions_false", "d"),
    ("missed", "divisions_missed", "d"),
    ("div. F1", "divisions_f1", ".3f"),
)


def tables(rows: list[Row]) -> list[Table]:
    """A table of tracking scores, and one of cell scores where a recording has cells; the last row combines all."""
    cells = [row for row in rows if row.cells is not None]
    return [_table(_COLUMNS, rows), *([_table(_CELL_COLUMNS, cells)] if cells else [])]


def _table(columns: tuple[tuple[str, str, str], ...], rows: list[Row]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, _, form in columns:
        number = form != "s"
        shown.add_column(
            heading,
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number,
            min_width=4 if number else 12,
        )
    for row in rows:
        values = row.values()
        if row.name == ALL:
            shown.add_section()
        shown.add_row(*("–" if values[key] is None else format(values[key], form) for _, key, form in columns))
    return shown


def write_json(path: Path, rows: list[Row]) -> None:
    """Write a list of maps."""
    path.write_text(json.dumps([row.values() for row in rows], indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write a table with a header; a value that does not apply is an empty cell.

    A name that a spreadsheet program would run as a formula gets an apostrophe before it; numbers stay as they are.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0].values()), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: escaped(value) if isinstance(value, str) else value for key, value in row.values().items()}
            for row in rows
        )
