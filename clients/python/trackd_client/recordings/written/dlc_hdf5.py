"""DeepLabCut's tables as HDF5, which pandas writes: read without PyTables, and without unpickling.

Letters: f rows, c columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError
from trackd_client.recordings.written.dlc_tables import TITLE, DlcColumns, block_rows, frame_number
from trackd_client.recordings.written.hdf5_tables import SPARSE_RATIO, opened, table, texts, whole_numbers
from trackd_client.recordings.written.plain_pickle import read_plain_pickle
from trackd_client.recordings.written.track_arrays import PresentInstances
from trackd_client.recordings.written.written_format import WrittenFormat
from trackd_client.recordings.written.written_frames import WrittenFrames

_OTHERWISE = "name the .csv that DeepLabCut writes beside it"


def read_dlc_hdf5(path: Path, limits: RecordingLimits) -> WrittenFrames:
    """All rows of the first table.

    pandas has two layouts: `table`, whose rows are records, and `fixed`, with the axes as tables of their own.

    Raises:
        RecordingError: names the file and the table.
    """
    with opened(path, TITLE) as file:
        group = _group(file)
        if group is None:
            raise RecordingError(f"{path}: not {TITLE}: it has no table of pandas")
        if "table" in group:
            names, field = _names(group, path), "values_block_0"
            values = table(group, "table", path, 1, most_ratio=SPARSE_RATIO)
            limits.check_frames(len(values), path)
            fields = values.dtype.names or ()
            labels = _labels(values, path) if "index" in fields else []
            if field not in fields or values.dtype[field].base.kind not in "iuf" or len(fields) != 2:
                raise RecordingError(
                    f"{path}, {values.name}: must hold an index and one block of numbers; {_OTHERWISE}"
                )
            values = values.fields(field)
            width = int(np.prod(group["table"].dtype[field].shape, dtype=np.int64))
        else:
            names = _level_names(group, "block0_items", path)
            values = table(group, "block0_values", path, 2, most_ratio=SPARSE_RATIO)
            limits.check_frames(len(values), path)
            labels = _fixed_labels(group, path)
            if values.dtype.kind not in "iuf" or "block1_values" in group:
                raise RecordingError(f"{path}, {values.name}: must hold numbers alone; {_OTHERWISE}")
            width = values.shape[1]
        n = len(values)
        if width != len(names) or len(labels) != n:
            raise RecordingError(
                f"{path}: has {width} columns with {len(names)} names, and {n} rows with {len(labels)}"
            )
        columns = DlcColumns.of(names, path)
        found = PresentInstances(path)
        for rows in block_rows(n, columns.step(path)):
            columns.add(found, rows.start, np.asarray(values[rows], np.float64).reshape(-1, width))
        return columns.frames(path, limits, [frame_number(label, str(path)) for label in labels], found)


def _group(file: Any) -> Any:
    """The first table that pandas has written."""
    for item in file.values():
        if "pandas_type" in item.attrs and ("table" in item or "block0_values" in item):
            return item
    return None


def _names(group: Any, path: Path) -> list[tuple[str, ...]]:
    """The names of the columns, which PyTables stores as a pickle."""
    try:
        ((_, names),) = read_plain_pickle(bytes(group.attrs["non_index_axes"]))
        if not isinstance(names, list) or not all(_is_name(name) for name in names):
            raise ValueError("are no tuples of texts")
    except (ValueError, TypeError, KeyError) as error:
        raise RecordingError(f"{path}: the names of its columns cannot be read: {error}; {_OTHERWISE}") from None
    return names


def _is_name(name: Any) -> bool:
    return isinstance(name, tuple) and all(isinstance(level, str) for level in name)


def _labels(values: Any, path: Path) -> list[Any]:
    if values.dtype["index"].kind not in "iuS" or values.dtype["index"].itemsize > 4096:
        raise RecordingError(f"{path}, {values.name}: its index must be numbers or names of images; {_OTHERWISE}")
    return list(values.fields("index")[()].tolist())


def _level_names(group: Any, name: str, path: Path) -> list[tuple[str, ...]]:
    """The names of an axis of several levels: the values of each level, and their numbers along the axis."""
    levels: list[Sequence[str]] = []
    while f"{name}_level{len(levels)}" in group:
        number = len(levels)
        values = texts(group, f"{name}_level{number}", path)
        along = whole_numbers(group, f"{name}_label{number}", path)
        if len(along) and (along.min() < 0 or along.max() >= len(values)):
            raise RecordingError(f"{path}, {name}_label{number}: must be the numbers of {len(values)} names")
        levels.append([values[place] for place in along])
    if len({len(level) for level in levels}) > 1:
        raise RecordingError(f"{path}, {name}: its levels must have equal lengths")
    return list(zip(*levels, strict=True))


def _fixed_labels(group: Any, path: Path) -> list[Any]:
    if "axis1" not in group:  # of several levels: labeled-data, the video, the image
        return [name[-1] for name in _level_names(group, "axis1", path)]
    found = table(group, "axis1", path, 1)
    return texts(group, "axis1", path) if found.dtype.kind in "SO" else whole_numbers(group, "axis1", path).tolist()


def _is_dlc(path: Path) -> bool:
    try:
        with opened(path, TITLE) as file:
            return _group(file) is not None
    except RecordingError as error:
        if "needs h5py" in str(error):
            raise
        return False


DLC_HDF5 = WrittenFormat(kind="dlc", title=TITLE, suffixes=(".h5", ".hdf5"), read=read_dlc_hdf5, recognises=_is_dlc)
