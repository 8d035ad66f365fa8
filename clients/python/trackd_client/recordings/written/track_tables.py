"""The tables that trackd writes as the outputs `csv` and `parquet`: a row for each detection and frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trackd_client.detections import Skeleton
from trackd_client.recordings.labels.tables import NO_VALUE, header_of, numbered, rows_of
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.written_frames import WrittenFrames, WrittenRows

FIXED = ("frame_index", "t_ns", "detection", "track_id", "track_score", "score", "x1", "y1", "x2", "y2")
_N_INTEGERS = 4
Cells = Sequence[float]  # of a row, in the order of the columns; NaN where there is no value


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
        path, header, (_numbers(row.values, header, row.where) for row in numbered(path, header, table, 2)), limits
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


def _parquet_rows(file: object, path: Path) -> Iterator[tuple[str, list[int], list[float]]]:
    number = 1
    for batch in file.iter_batches(batch_size=4096):  # type: ignore[attr-defined]
        columns = [column.to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            where = f"{path}, row {number}"
            if not all(type(cell) is int for cell in cells[:_N_INTEGERS]):
                raise RecordingError(f"{where}: {', '.join(FIXED[:_N_INTEGERS])} must be whole numbers")
            if not all(cell is None or isinstance(cell, float) for cell in cells[_N_INTEGERS:]):
                raise RecordingError(f"{where}: must hold numbers from the column {FIXED[_N_INTEGERS]} on")
            yield where, list(cells[:_N_INTEGERS]), [math.nan if cell is None else cell for cell in cells[_N_INTEGERS:]]


def _numbers(values: Mapping[str, str], header: Sequence[str], where: str) -> tuple[str, list[int], list[float]]:
    whole: list[int] = []
    real: list[float] = []
    for place, name in enumerate(header):
        text = values.get(name, "").strip()
        try:
            if place < _N_INTEGERS:
                if len(text) > 20:
                    raise ValueError
                whole.append(int(text))
            else:
                real.append(math.nan if text in NO_VALUE else float(text))
        except ValueError:
            kind = "a whole number" if place < _N_INTEGERS else "a number, or empty"
            raise RecordingError(f"{where}: {name} must be {kind}; got {text[:40]!r}") from None
    return where, whole, real


def _read(
    path: Path, header: Sequence[str], table: Iterable[tuple[str, list[int], list[float]]], limits: RecordingLimits
) -> WrittenFrames:
    if not is_track_table(header) or len(set(header)) != len(header):
        raise RecordingError(f"{path}, row 1: the columns must be {', '.join(FIXED)}, then those of nodes")
    rows = WrittenRows(path, limits, _skeleton(header, path))
    n_nodes = 0 if rows.skeleton is None else len(rows.skeleton.nodes)
    frame: list[tuple[str, list[int], list[float]]] = []
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


def _add(rows: WrittenRows, frame: list[tuple[str, list[int], list[float]]], n_nodes: int) -> None:
    where, (frame_index, t_ns, *_), _ = frame[0]
    found = [(whole[3], real) for _, whole, real in frame if whole[2] >= 0]  # an empty frame has one row with −1
    ids = [track_id for track_id, _ in found]
    nodes = [real[6:] for _, real in found]
    scores = [real[1] for _, real in found]
    weights = [value for cells in nodes for value in cells[2::3]]
    rows.add(
        where,
        frame_index,
        t_ns,
        ids,
        track_scores=[real[0] for _, real in found],
        scores=None if all(math.isnan(score) for score in scores) else scores,
        boxes=[value for _, real in found for value in real[2:6]],
        keypoints=[value for cells in nodes for i in range(n_nodes) for value in cells[3 * i : 3 * i + 2]]
        if n_nodes
        else None,
        keypoint_scores=None if all(math.isnan(weight) for weight in weights) else weights,
    )
