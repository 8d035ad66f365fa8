"""Tracks that TRex exports, a table for each animal; and single tables of points, `frame,x,y` and more."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trackd_client.recordings.labels.label_format import LabelFormat
from trackd_client.recordings.labels.spots import PIXEL_UNITS, SpotRows, Spots, one_a_frame
from trackd_client.recordings.labels.tables import Row, header_of, numbered, rows_of
from trackd_client.recordings.recording import RecordingError

logger = logging.getLogger(__name__)

POINT_COLUMNS = ("frame", "x", "y")
BOX_COLUMNS = ("left", "top", "width", "height")
# X, X (cm), X#wcentroid (cm): the axis, the point of the animal, the unit
_PLACE = re.compile(r"([XY])(?:#(\w+))?\s*(?:\((.*)\))?")
_POINTS = ("wcentroid", None)  # in order of preference, if there are several
_CM_PER_PIXEL = re.compile(r"^\s*cm_per_pixel\s*=\s*(\S+)\s*$", re.MULTILINE)


def read_trex(path: Path) -> Spots:
    """The animals of a folder of tables. The identities count from 0, in the order of the numbers in the file names.

    In a single file, one animal's table has identity 0, and in a table of points `id` is the identity.

    Raises:
        RecordingError: names the file and the row.
    """
    if not path.is_dir():
        return _points(path) if is_point_table(header_of(path)) else _animals([path], path)
    files = sorted((file for file in path.iterdir() if file.suffix.lower() == ".csv"), key=_by_number)
    if not files:
        raise RecordingError(f"{path}: a folder must hold TRex's tables, a .csv for each animal; there is none")
    return _animals(files, path)


def is_point_table(header: Sequence[str]) -> bool:
    """Whether a table has a point in each row, in columns of exactly these names."""
    return set(POINT_COLUMNS) <= set(header)


def is_animal_table(header: Sequence[str]) -> bool:
    """Whether a table looks like that of one animal."""
    return "frame" in header and _place(header, "X") is not None


def _points(path: Path) -> Spots:
    header = header_of(path)
    table = rows_of(path)
    next(table)
    rows = SpotRows()
    boxes: list[list[float]] = []
    for number, row in enumerate(numbered(path, header, table, first=2)):
        x, y = row.real("x"), row.real("y")
        rows.add(row.whole("frame"), x, y, track=row.whole("id", -1), spot_id=number)
        if set(BOX_COLUMNS) <= set(header):
            left, top, width, height = (row.real(column) for column in BOX_COLUMNS)
            if width < 0 or height < 0:
                raise RecordingError(f"{row.where}: width and height must be ≥ 0; got {width:g}, {height:g}")
            boxes.append([left - x, top - y, left + width - x, top + height - y])
    spots = rows.spots()
    if boxes:
        spots = replace(spots, boxes=np.array(boxes, np.float64)[spots.spot_ids])
    return one_a_frame(spots, path)


def _animals(files: Sequence[Path], path: Path) -> Spots:
    rows = SpotRows()
    units: dict[str | None, Path] = {}
    stop = 0
    for track, file in enumerate(files):
        columns = _columns(file)
        units.setdefault(columns.unit, file)
        table = rows_of(file)
        next(table)
        for row in numbered(file, columns.header, table, first=2):
            frame = row.whole("frame")
            stop = max(stop, frame + 1)
            if not _is_missing(row, columns):
                rows.add(frame, row.real(columns.x), _y(row, columns), track=track)
    if len(units) > 1:
        raise RecordingError(f"{path}: all tables must have one unit; {' and '.join(map(str, units.values()))} differ")
    (unit,) = units
    side = _cm_per_pixel(files[0]) if unit == "cm" else None
    size = None if side is None else (side, side)
    # An animal that is lost until the end has rows until the end. These frames belong to the recording too.
    return one_a_frame(replace(rows.spots(), unit=unit, pixel_size=size, n_frames=stop), path)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table that are read."""

    header: list[str]
    x: str
    y: str | None  # None: y is in `blobid`
    unit: str | None
    pixel: float = 1.0  # the side of a pixel of `blobid` in `unit`


def _columns(path: Path) -> _Columns:
    header = header_of(path)
    x, y = _place(header, "X"), _place(header, "Y")
    if "frame" not in header or x is None:
        raise RecordingError(f"{path}, row 1: must hold TRex's columns frame, X and Y; got {header}")
    found = _PLACE.fullmatch(x)
    unit = found[3].strip().lower() if found and found[3] else None
    if y is not None:
        return _Columns(header, x, y, unit)
    if "blobid" not in header:
        raise RecordingError(f"{path}, row 1: must hold Y or blobid beside {x}; got {header}")
    pixel = _cm_per_pixel(path) if unit == "cm" else 1.0 if unit is None or unit in PIXEL_UNITS else None
    if pixel is None:
        raise RecordingError(
            f"{path}, row 1: no column Y. Its value in blobid is in pixels, which needs cm_per_pixel of a .settings "
            "file beside the table: there is none. Export Y, or put TRex's .settings there"
        )
    logger.warning("no column Y: y is the top of each animal, from blobid file=%s", path)
    return _Columns(header, x, None, unit, pixel)


def _place(header: Sequence[str], axis: str) -> str | None:
    """The column of an axis: the weighted centroid's, else the one without a point's name, else the first."""
    found = {match[2]: name for name in reversed(header) if (match := _PLACE.fullmatch(name)) and match[1] == axis}
    return next((found[point] for point in (*_POINTS, *reversed(found)) if point in found), None)


def _is_missing(row: Row, columns: _Columns) -> bool:
    """Whether the animal was not found in this frame: TRex then writes `inf`."""
    texts = (row.values[column].strip().lower() for column in (columns.x, columns.y or "blobid"))
    return any(text in ("inf", "-inf", "nan") for text in texts)


def _y(row: Row, columns: _Columns) -> float:
    if columns.y is not None:
        return row.real(columns.y)
    # blobid holds 13 bits for x of the blob's first line, and 13 bits for its y
    return ((row.whole("blobid") >> 6) & 0x1FFF) * columns.pixel


def _cm_per_pixel(path: Path) -> float | None:
    """The value in TRex's settings, which lie beside the tables or in the folder above; None if there is none."""
    places = (path.absolute().parent, path.absolute().parent.parent)
    files = (file for place in places for file in sorted(place.glob("*.settings")))
    for file in files:
        if not path.stem.startswith(file.stem):
            continue
        try:
            found = _CM_PER_PIXEL.search(file.read_text(encoding="utf-8", errors="replace"))
            side = float(found[1]) if found else math.nan
        except (OSError, ValueError) as error:
            raise RecordingError(f"{file}: cm_per_pixel cannot be read: {error}") from None
        if math.isfinite(side) and side > 0:
            return side
    return None


def _by_number(path: Path) -> tuple[int, str]:
    """A sort key: the last number in a name, then the name. Names without a number are first."""
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else -1), path.name


TREX = LabelFormat(
    title="a TRex table",
    read=read_trex,
    source="trex",
    columns=lambda header: is_animal_table(header) or is_point_table(header),
)
TREX_FOLDER = LabelFormat(
    title="a folder of TRex tables",
    read=read_trex,
    source="trex",
    folder=lambda _: True,
)
