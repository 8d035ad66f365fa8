"""The plot of identity.py: HOTA of each set and variant, of trackd and of the best peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt

from identity_peers import best

if TYPE_CHECKING:
    from identity import Result

TITLES = {"plain": "as recorded", "s3": "every 3rd frame", "s5": "every 5th frame", "drop": "10 % dropped, 3 % jitter"}


def draw(results: list[Result], path: Path) -> None:
    """Draw a row for each set and a panel for each variant; the suffix of `path` selects the format."""
    mpl.use("agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "trackd"
    names = list(dict.fromkeys(result.name for result in results))
    variants = [variant for variant in TITLES if any(result.variant == variant for result in results)]
    size = (2 + 2.4 * len(variants), 1.4 + 0.2 * len(names))
    figure, panels = plt.subplots(1, len(variants), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, variant in zip(panels[0], variants, strict=True):
        for result in results:
            if result.variant == variant:
                _draw_row(axes, names.index(result.name), result)
        axes.set(title=TITLES[variant], xlabel="HOTA", xlim=(0, 102), ylim=(len(names) - 0.5, -0.5))
        axes.title.set_fontsize("medium")
        axes.grid(visible=True, alpha=0.3)
    panels[0][0].set_yticks(range(len(names)), names, fontsize="small")
    marks = dict(zip(*reversed(panels[0][0].get_legend_handles_labels()), strict=True))
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_row(axes: plt.Axes, row: int, result: Result) -> None:
    peer = best(result.peers, "hota")
    if peer is not None:
        axes.plot([result.open.hota, peer[1]], [row, row], color="lightgrey", linewidth=1, zorder=1)
        axes.plot(peer[1], row, "|", color="tab:orange", markersize=9, markeredgewidth=2, label="best peer")
    if result.closed is not None:
        axes.plot(result.closed.hota, row, "o", color="tab:blue", fillstyle="none", label="trackd, max_tracks: N")
    axes.plot(result.open.hota, row, "o", color="tab:blue", markersize=4, label="trackd, defaults")
