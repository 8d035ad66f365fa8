"""Draws the runs of concept_runs.py in one style: on a light card, so that the pictures are readable on any page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from concept_runs import Crossing, FrameTimes, Passage, Restart, WindowRun

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by colour-blind readers too
INK, PALE, CARD = "#22272e", "#8b949e", "#fbfaf7"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trackd",
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": CARD,
    "axes.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
STAGES = {
    "queue": "waits in\nits queue",
    "encode": "image and\nfeatures",
    "associate": "scores and\nids",
    "journal": "stored",
    "publish": "published",
}


def colour(track: int) -> str:
    return COLOURS[track % len(COLOURS)]


def begin(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.2, 2.8)) -> tuple[Figure, np.ndarray]:
    mpl.use("agg")
    mpl.rcParams.update(STYLE)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    text = path.read_text()  # matplotlib leaves spaces at the ends of lines
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")


def draw_window(run: WindowRun, path: Path) -> None:
    figure, ((axes,),) = begin(size=(7.2, 2.6))
    first_held = min(index for held in run.held.values() for index in held)
    for track, frames in run.seen.items():
        row = -track
        held = set(run.held.get(track, ()))
        old = [frame for frame in frames if frame not in held]
        axes.scatter(old, [row] * len(old), s=46, facecolors=CARD, edgecolors=colour(track))
        axes.scatter(sorted(held), [row] * len(held), s=46, color=colour(track))
        for lost in run.lost.get(track, ()):
            back = next((frame for frame in run.found.get(track, ()) if frame > lost), run.ended.get(track))
            if back is not None:
                axes.plot([lost - 0.6, back - 0.4], [row, row], linestyle=":", color=colour(track))
                text = "lost, found again" if track not in run.ended else f"lost; ended after max_gap = {run.max_gap}"
                axes.text((lost + back) / 2 - 0.5, row + 0.18, text, ha="center", fontsize=8)
        if track in run.ended:
            axes.scatter([run.ended[track]], [row], marker="x", s=60, color=colour(track))
    axes.axvspan(first_held - 0.5, run.frames - 0.5, color=PALE, alpha=0.15, linewidth=0)
    label = f"held: the last {run.window_size} observations of each track"
    axes.text(run.frames - 0.6, 0.45, label, ha="right", fontsize=8)
    axes.set(xlabel="frame", ylim=(-2.6, 0.75), xlim=(-0.8, run.frames - 0.4))
    axes.set_yticks([-track for track in run.seen], [f"track {track}" for track in run.seen])
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    save(figure, path)


def _lines(axes: Axes, xs: Sequence[Sequence[float]], ids: Sequence[Sequence[int | None]]) -> None:
    """Draw the place of each animal over time in the colour of the id that it had."""
    for animal in range(len(xs[0])):
        points = [(step, row[animal], ids[step][animal]) for step, row in enumerate(xs)]
        for track in sorted({track for _, _, track in points if track is not None}):
            own = [(step, x) if each == track else (step, np.nan) for step, x, each in points]
            axes.plot(*zip(*own, strict=True), color=colour(track), linewidth=2)


def draw_crossings(runs: Sequence[Crossing], path: Path) -> None:
    figure, axes = begin(2, len(runs), (7.2, 4.0))
    for column, run in enumerate(runs):
        above, below = axes[0, column], axes[1, column]
        _lines(above, run.xs, run.ids)
        above.axvline(run.shown, color=PALE, linewidth=0.8, linestyle="--")
        above.set_title(run.setting.replace(", ", ",\n"), fontsize=8)
        above.set(xlabel="frame", xticks=[0, 10, 20], yticks=[])
        above.text(0.5, 1.0, "ids swapped" if run.swapped else "ids kept", transform=above.transAxes, ha="center",
                   va="top", fontsize=8, fontweight="bold")  # fmt: skip
        table = np.array(run.scores)
        below.imshow(table, cmap="Greys", vmin=-6, vmax=24, aspect="auto")
        for row in range(2):
            for track in range(2):
                chosen = run.ids[run.shown][row] == track
                below.text(track, row, f"{table[row, track]:.2f}", ha="center", va="center", fontsize=8,
                           color=colour(track), fontweight="bold" if chosen else "normal")  # fmt: skip
        below.set_xticks([0, 1], ["track 0", "track 1"], fontsize=8)
        below.set_yticks([0, 1], ["animal\nA", "animal\nB"] if column == 0 else ["", ""], fontsize=8)
        below.spines[["left", "bottom"]].set_visible(False)
        below.tick_params(length=0)
        for track, label in enumerate(below.get_xticklabels()):
            label.set_color(colour(track))
    axes[0, 0].set_ylabel("place")
    axes[1, 0].set_ylabel(f"S in frame {runs[0].shown}")
    save(figure, path)


def draw_passages(runs: Sequence[Passage], path: Path, hidden: str) -> None:
    figure, axes = begin(1, len(runs), (7.2, 2.6))
    for axis, run in zip(axes[0], runs, strict=True):
        axis.axvspan(run.hidden[0] - 0.5, run.hidden[1] - 0.5, color=PALE, alpha=0.2, linewidth=0)
        _lines(axis, run.xs, run.ids)
        for animal in range(2):
            labelled = [(step, row[animal]) for step, row in enumerate(run.ids) if row[animal] is not None]
            for step, track in (labelled[0], labelled[-1]):
                assert track is not None
                axis.annotate(f"id {track}", (step, run.xs[step][animal]), (0, 5), textcoords="offset points",
                              fontsize=8, color=colour(track), ha="left" if step == 0 else "right")  # fmt: skip
        axis.set_title(run.setting)
        axis.set(xlabel="frame", yticks=[])
        axis.margins(y=0.15)
        axis.text(
            sum(run.hidden) / 2 - 0.5, 0.01, hidden, transform=axis.get_xaxis_transform(), ha="center", fontsize=7
        )
    axes[0, 0].set_ylabel("place")
    save(figure, path)


def draw_frame(times: FrameTimes, path: Path) -> None:
    figure, ((axes,),) = begin(size=(7.2, 2.4))
    at = 0.0
    for number, (name, us) in enumerate(times.stages_us.items()):
        axes.barh([0], [us], left=at, height=0.5, color=colour(number))
        height = 0.42 if number % 2 == 0 else 1.15  # short stages are near each other
        axes.annotate(f"{STAGES[name]}\n{us:.0f} µs", (at + us / 2, 0.25), (at + us / 2, height), ha="center",
                      fontsize=8, arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.6})  # fmt: skip
        at += us
    axes.barh([-0.7], [times.round_trip_us], height=0.3, color=PALE, alpha=0.5)
    text = f"a round trip of the client: {times.round_trip_us:.0f} µs"
    axes.text(times.round_trip_us / 2, -0.7, text, ha="center", va="center", fontsize=8)
    axes.set(ylim=(-1.0, 2.1), yticks=[], xlabel=f"µs, medians of {times.frames} frames of {times.instances} boxes")
    axes.spines["left"].set_visible(False)
    save(figure, path)


def draw_restart(run: Restart, path: Path) -> None:
    figure, ((axes,),) = begin(size=(7.2, 2.4))
    axes.axvspan(run.killed_s, run.ready_s, color=PALE, alpha=0.25, linewidth=0)
    axes.text((run.killed_s + run.ready_s) / 2, 2.55, "killed … ready again", ha="center", fontsize=8)
    tracks = sorted({track for ids in run.ids for track in ids})
    for track in tracks:
        times = [at for at, ids in zip(run.received_s, run.ids, strict=True) if track in ids]
        axes.scatter(times, [track] * len(times), s=14, marker="|", color=colour(track))
    axes.set_yticks(tracks, [f"id {track}" for track in tracks])
    axes.set(xlabel="s; each stroke is the receipt of a frame's ids", ylim=(-0.6, max(2.9, len(tracks) - 0.1)))
    axes.spines["left"].set_visible(False)
    save(figure, path)
