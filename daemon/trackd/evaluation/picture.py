"""A picture of a recording's identities over time: a line for each, coloured by its track id, with its switches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from trackd.evaluation.switches import Switch
from trackd.outputs.render import colour_of

MAX_ROWS = 400  # with more, a line would be thinner than a pixel
IdHistory = list[tuple[int, int]]  # (frame_index, track id) of one identity


def draw_tracks(path: Path, title: str, histories: Mapping[int, IdHistory], switches: Iterable[Switch]) -> None:
    """Write a .png.

    Args:
        path: the file.
        title: of the picture.
        histories: each identity's frames and track ids by rising frame; -1: it had no track.
        switches: to mark; those from or to no track are not marked, since the gap shows them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # of the extra trackd[eval]
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    shown = list(histories)[:MAX_ROWS]
    rows = {gt_id: row for row, gt_id in enumerate(shown)}
    segments, colours = [], []
    for gt_id in shown:
        for first, last, track_id in runs(histories[gt_id]):
            segments.append([(first - 0.5, rows[gt_id]), (last + 0.5, rows[gt_id])])
            blue, green, red = colour_of(track_id)
            colours.append((red / 255, green / 255, blue / 255))
    height = float(np.clip(0.22 * len(shown) + 1.2, 2, 14))
    figure = Figure(figsize=(11, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.add_collection(
        LineCollection(segments, colors=colours, linewidths=float(np.clip(500 / len(shown or [1]), 1, 9)))
    )
    marks = [(s.frame_index - 0.5, rows[s.gt_id]) for s in switches if s.gt_id in rows and min(s.before, s.after) >= 0]
    if marks:
        x, y = zip(*marks, strict=True)
        axes.scatter(x, y, marker="|", s=90, color="black", linewidths=1.4, zorder=3, label=f"{len(marks)} switches")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    left_out = len(histories) - len(shown)
    axes.set(title=title, xlabel="frame", ylabel="identity" + (f" ({left_out} more)" if left_out else ""))
    axes.set_yticks(range(len(shown)), [str(gt_id) for gt_id in shown] if len(shown) <= 40 else [""] * len(shown))
    axes.autoscale()
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def runs(history: IdHistory) -> Iterable[tuple[int, int, int]]:
    """First frame, last frame and track id of each interval with one track, without a gap or a switch."""
    start = previous = None
    for frame_index, track_id in history:
        if previous is None or start is None:
            start = (frame_index, track_id)
        elif track_id != start[1] or frame_index != previous + 1:
            if start[1] >= 0:
                yield start[0], previous, start[1]
            start = (frame_index, track_id)
        previous = frame_index
    if start is not None and previous is not None and start[1] >= 0:
        yield start[0], previous, start[1]
