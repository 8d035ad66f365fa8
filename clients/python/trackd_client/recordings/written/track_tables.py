"""The tables that trackd writes as the outputs `csv` and `parquet`: a row for each detection and frame."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackd_client.detections import Skeleton
from trackd_client.recordings.labels.tables import NO_VALUE, header_of, numbered, rows_of
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames, WrittenRows

FIXED = ("frame_index", "t_ns", "detection", "track_id", "track_score", "score", "x1", "y1", "x2", "y2")
ABOUT_TRACKS = ("track_name", "parent_id", "corrections")  # the last columns; tables of earlier versions lack them
_N_INTEGERS = 4
_Row = tuple[str, list[int], list[float], list[Any]]  # where it is; cells of FIXED and nodes; cells of ABOUT_TRACKS


def is_track_table(header: Sequence[str]) -> bool:
    """Whether a table has these columns first."""
    return tuple(header[: len(FIXED)]) == FIXED


def read_csv_table(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames of a `.csv`.

    Raises:
        RecordingError: names the file and the row.
    """
    header = header_of(path)
    table = rows_of(path)
    next(table, None)
    return _read(
        path, header, (_cells(row.values, header, row.where) for row in numbered(path, header, table, 2)), limits
    )


def read_parquet_table(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All frames of a `.parquet`.

    Raises:
        RecordingError: names the file and the row, or the package that is missing.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise RecordingError(f"{path}: a .parquet needs pyarrow, which is not installed: pip install pyarrow") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            return _read(path, header, _parquet_rows(file, path), limits)
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordingError(f"{path}: not a Parquet table: {error}") from None


def _parquet_rows(file: Any, path: Path) -> Iterator[_Row]:
    names = file.schema_arrow.names
    last = _n_numbers(names)
    number = 1
    for batch in file.iter_batches(batch_size=4096):
        columns = [column.to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            where = f"{path}, row {number}"
            if not all(type(cell) is int for cell in cells[:_N_INTEGERS]):
                raise RecordingError(f"{where}: {', '.join(FIXED[:_N_INTEGERS])} must be whole numbers")
            real = cells[_N_INTEGERS:last]
            if not all(cell is None or isinstance(cell, float) for cell in real):
                raise RecordingError(f"{where}: must hold numbers from the column {FIXED[_N_INTEGERS]} on")
            about = list(cells[last:])
            if about and not all(
                cell is None or type(cell) is kind for cell, kind in zip(about, (str, int, str), strict=True)
            ):
                raise RecordingError(f"{where}: track_name and corrections must be texts, and parent_id a whole number")
            yield where, list(cells[:_N_INTEGERS]), [math.nan if cell is None else cell for cell in real], about


def _n_numbers(header: Sequence[str]) -> int:
    """The number of columns before those about tracks."""
    return len(header) - (len(ABOUT_TRACKS) if tuple(header[-len(ABOUT_TRACKS) :]) == ABOUT_TRACKS else 0)


def _cells(values: Mapping[str, str], header: Sequence[str], where: str) -> _Row:
    """The cells of a row of a `.csv`."""
    whole: list[int] = []
    real: list[float] = []
    last = _n_numbers(header)
    about: list[Any] = [values.get(name, "") or None for name in header[last:]]
    if about:
        about[1] = _whole(about[1] or "", "parent_id", where)
    for place, name in enumerate(header[:last]):
        text = values.get(name, "").strip()
        if place < _N_INTEGERS:
            whole.append(_whole(text, name, where))
            continue
        try:
            real.append(math.nan if text in NO_VALUE else float(text))
        except ValueError:
            raise RecordingError(f"{where}: {name} must be a number, or empty; got {text[:40]!r}") from None
    return where, whole, real, about


def _whole(text: str, name: str, where: str) -> int:
    try:
        if len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError:
        raise RecordingError(f"{where}: {name} must be a whole number; got {text[:40]!r}") from None


def _read(path: Path, header: Sequence[str], table: Iterable[_Row], limits: RecordingLimits) -> WrittenFrames:
    if not is_track_table(header) or len(set(header)) != len(header):
        raise RecordingError(f"{path}, row 1: the columns must be {', '.join(FIXED)}, then those of nodes")
    rows = WrittenRows(path, limits, _skeleton(header[: _n_numbers(header)], path))
    n_nodes = 0 if rows.skeleton is None else len(rows.skeleton.nodes)
    frame: list[_Row] = []
    for row in table:
        if frame and row[1][:2] != frame[0][1][:2]:
            _add(rows, frame, n_nodes)
            frame = []
        frame.append(row)
        if len(frame) > limits.instances:
            raise RecordingError(f"{row[0]}: its frame has more than {limits.instances} instances (limits.instances)")
    if frame:
        _add(rows, frame, n_nodes)
    return rows.written()


def _skeleton(header: Sequence[str], path: Path) -> Skeleton | None:
    names = header[len(FIXED) :]
    nodes = [name.removesuffix("_x") for name in names[::3]]
    if list(names) != [f"{node}_{value}" for node in nodes for value in ("x", "y", "score")]:
        raise RecordingError(
            f"{path}, row 1: the columns after y2 must be <node>_x, <node>_y, <node>_score of each node"
        )
    return Skeleton(tuple(nodes)) if nodes else None


def _add(rows: WrittenRows, frame: list[_Row], n_nodes: int) -> None:
    where, (frame_index, t_ns, *_), _, _ = frame[0]
    found = [row for row in frame if row[1][2] >= 0]  # an empty frame has one row with −1
    ids = [whole[3] for _, whole, _, _ in found]
    nodes = [real[6:] for _, _, real, _ in found]
    scores = [real[1] for _, _, real, _ in found]
    weights = [value for cells in nodes for value in cells[2::3]]
    rows.add(
        where,
        frame_index,
        t_ns,
        ids,
        track_scores=[real[0] for _, _, real, _ in found],
        scores=None if all(math.isnan(score) for score in scores) else scores,
        boxes=[value for _, _, real, _ in found for value in real[2:6]],
        keypoints=[value for cells in nodes for i in range(n_nodes) for value in cells[3 * i : 3 * i + 2]]
        if n_nodes
        else None,
        keypoint_scores=None if all(math.isnan(weight) for weight in weights) else weights,
    )
    rows.note_names(ids, {row[1][3]: row[3][0] for row in found if row[3] and row[3][0]})
    begun = ((row[1][3], row[3][1]) for row in found if row[3] and row[3][1] is not None)
    rows.lineage.update((child, parent) for child, parent in begun if 0 <= parent < 2**31)
    for at, _, _, about in frame:
        if about and about[2]:
            rows.note_corrections(frame_index, _json(about[2], at), at)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{where}: corrections must be JSON: {error}") from None


CSV_TABLE = WrittenFormat(
    kind="csv",
    title="a .csv table of trackd",
    suffixes=(".csv",),
    read=read_csv_table,
    recognises=lambda path: is_track_table(header_of(path)),
)
PARQUET_TABLE = WrittenFormat(
    kind="parquet", title="a .parquet table of trackd", suffixes=(".parquet",), read=read_parquet_table
)
