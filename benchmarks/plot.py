"""The plot of step.py's figures: the time of a frame against the number of instances."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

# One peer of each package in colour; the others in grey.
SHOWN = {
    "trackers-bytetrack": "tab:orange",
    "boxmot-sfsort": "tab:green",
    "ultralytics-bytetrack": "tab:purple",
    "norfair-iou": "tab:brown",
    "motpy": "tab:pink",
}


def draw(figures: dict[str, dict[int, float]], path: Path) -> None:
    """Draw the medians, ms by tracker and number of instances; the suffix of `path` selects the format."""
    mpl.use("agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "trackd"
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    others = "other peers"
    for name in sorted(figures, key=lambda name: name in SHOWN):
        if name == "trackd":
            continue
        counts = sorted(figures[name])
        label = name if name in SHOWN else others
        axes.plot(
            counts,
            [figures[name][n] for n in counts],
            marker="o",
            markersize=3,
            linewidth=1.2 if name in SHOWN else 0.6,
            color=SHOWN.get(name, "lightgrey"),
            label=label,
        )
        others = others if name in SHOWN else "_another"  # one legend entry for all of them
    counts = sorted(figures["trackd"])
    ours = [figures["trackd"][n] for n in counts]
    axes.plot(counts, ours, marker="o", linewidth=2.5, color="tab:blue", label="trackd, motion")
    axes.set(xscale="log", yscale="log", xlabel="instances in a frame", ylabel="time of a frame, ms (median)")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
