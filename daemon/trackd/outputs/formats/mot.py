"""MOTChallenge text: one row per tracked instance, appended frame by frame.

The format counts frames, ids and pixels from 1; trackd counts them from 0. The writer adds 1 to a corner, and the
reader (`trackd_client.recordings.motchallenge`) subtracts it, so boxes that are read and written stay unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trackd.outputs.files.line_file import LineWriter
from trackd.outputs.records import OutputRecord

MAX_DECIMALS = 9


class MotWriter(LineWriter):
    """Writes `<out_dir>/<name>.txt`: `frame,id,left,top,width,height,score,-1,-1,-1`.

    Unassigned instances are left out, since the format has no value for them. Every frame is in the file when `write`
    returns; after a kill the file is shorter.
    """

    suffix = ".txt"

    def write(self, record: OutputRecord) -> None:
        """Add the frame's assigned instances.

        Raises:
            ValueError: the writer is closed.
        """
        rows = np.flatnonzero(record.track_ids >= 0)
        scores = np.ones(len(record.track_ids)) if record.scores is None else record.scores
        lines = []
        for row in rows:
            box = ",".join(mot_box(record.boxes[row].astype(np.float32)))
            score = np.format_float_positional(np.float32(scores[row]), trim="-")
            lines.append(f"{record.frame_index + 1},{int(record.track_ids[row]) + 1},{box},{score},-1,-1,-1\n")
        self.append("".join(lines))


def mot_box(box: NDArray[np.float32]) -> tuple[str, str, str, str]:
    """`left`, `top`, `width`, `height` of a box (4,), with the fewest decimals that read back as the same box."""
    left, width = _span(float(box[0]), float(box[2]))
    top, height = _span(float(box[1]), float(box[3]))
    return left, top, width, height


def _span(first: float, last: float) -> tuple[str, str]:
    """The first edge and the extent from it, as text; `first` and `last` are exact float32 values."""
    edge = next(
        (text for text in _decimals(first + 1) if np.float32(float(text) - 1) == np.float32(first)),
        repr(first + 1),
    )
    start = float(edge) - 1
    extent = next(
        (text for text in _decimals(last - start) if np.float32(start + float(text)) == np.float32(last)),
        repr(last - start),
    )
    return edge, extent


def _decimals(value: float) -> Iterator[str]:
    """`value` rounded to 0, 1, 2 … decimals."""
    return (f"{value:.{places}f}" for places in range(MAX_DECIMALS + 1))
