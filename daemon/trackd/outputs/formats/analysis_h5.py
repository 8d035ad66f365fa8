"""SLEAP's analysis files (HDF5): the arrays of all tracks, as SLEAP exports them for analysis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats.corrections import corrections_text, note_corrections
from trackd.outputs.formats.slp import labels_of
from trackd.outputs.formats.track_table import check_places
from trackd.outputs.records import ARRAYS, OutputRecord, StreamInfo
from trackd_client.recordings.hdf5 import disable_file_locks


class AnalysisH5Writer(WholeFileWriter):
    """Writes `<out_dir>/<name>.h5` at close, by sleap-io, with SLEAP's own order of the axes.

    The arrays begin with frame 0. Further data sets, which SLEAP does not read: `frame_index` and `t_ns` of each
    recorded frame, the `track_ids` and `parent_ids` (−1: none) in the order of `track_names`, and if people corrected
    anything, `corrections` as JSON. Unassigned instances are left out.
    """

    suffix = ".h5"

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""
        disable_file_locks()  # the stream's part is locked, and no other process knows the temporary name
        import h5py
        import sleap_io

        seen = _Seen()
        labels = labels_of(stream, seen.tracked(records))
        ids = sorted(seen.ids)  # `labels_of` sorts the tracks by id
        n_frames = 1 + (seen.frames[-1][0] if seen.frames else 0)
        check_places(stream.name, n_frames, len(ids), len(labels.skeletons[0].nodes))
        if not labels.labeled_frames:
            labels.append(sleap_io.LabeledFrame(video=labels.videos[0], frame_idx=0, instances=[]))
        sleap_io.save_analysis_h5(labels, str(path))
        times = np.array(seen.frames, np.int64).reshape(-1, 2)
        with h5py.File(path, "a") as file:
            file["frame_index"], file["t_ns"] = times[:, 0], times[:, 1]
            file["track_ids"] = np.array(ids, np.int64)
            if seen.corrections:
                file["corrections"] = corrections_text(seen.corrections)
            file["parent_ids"] = np.array([seen.parents.get(track_id, -1) for track_id in ids], np.int64)


@dataclass(slots=True)
class _Seen:
    """What is noted of the records while they are read once."""

    frames: list[tuple[int, int]] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    parents: dict[int, int] = field(default_factory=dict)
    corrections: list[Any] = field(default_factory=list)

    def tracked(self, records: Iterable[OutputRecord]) -> Iterator[OutputRecord]:
        """The same records without their unassigned instances."""
        for record in records:
            self.frames.append((record.frame_index, record.t_ns))
            self.parents.update(record.parents)
            note_corrections(self.corrections, record)
            rows = np.flatnonzero(record.track_ids >= 0)
            self.ids.update(record.track_ids[rows].tolist())
            arrays = {name: getattr(record, name) for name in ARRAYS}
            yield replace(record, **{name: array[rows] for name, array in arrays.items() if array is not None})
