"""A lost rack, on a fake clock: how long until its streams have owners again, and how they are spread then.

    python benchmarks/fleet_simulation.py [--streams N] [--members N] [--racks N] [--seed S] [--plot FILE] ...

The placement is trackd's code; the servers of the store are times. `--help` has them with their defaults, which
docs/capacity.md explains. Each column is one arrangement: one fleet of all members, several fleets whose members are in
all racks, and these with the smallest capacity at which the members that are left have room for all streams. The same
options give the same figures.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from simulated_fleet import AppendLoad, Figures, SimulatedFleet, append_load

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How streams and members are divided."""

    name: str
    fleets: int  # with a log each; their members are in all racks
    capacity: int  # of a member


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What happened to the streams of the lost rack. Letters: s such streams, l living members."""

    living: int
    claimed_s: Floats  # (s,) until a stream had an owner again
    opened_s: Floats  # (s,) until its frames were taken again
    before: Floats  # streams of each member
    after: Floats  # (l,)
    refused: int
    log: AppendLoad  # of each log, after the loss


def simulate(
    arrangement: Arrangement, streams: int, members: int, racks: int, figures: Figures, seed: int
) -> tuple[Outcome, list[SimulatedFleet]]:
    """Lose rack 0; members and streams are dealt to the fleets in turn."""
    outcomes, fleets = [], []
    for number in range(arrangement.fleets):
        count = len(range(number, streams, arrangement.fleets))
        placed = [rack % racks for rack in range(len(range(number, members, arrangement.fleets)))]
        fleet = SimulatedFleet(count, placed, arrangement.capacity, figures, np.random.default_rng([seed, number]))
        before = list(fleet.loads.values())
        lost = fleet.lose(0)
        fleets.append(fleet)
        outcomes.append(([fleet.claimed_s[each] for each in lost], [fleet.opened_s[each] for each in lost], before))
    claimed, opened, before = (np.concatenate([each[part] for each in outcomes]) for part in range(3))
    after = np.concatenate([list(fleet.loads.values()) for fleet in fleets])
    log = append_load(-(-(streams - len(claimed)) // arrangement.fleets), figures)
    return Outcome(len(after), claimed, opened, before, after, sum(fleet.refused for fleet in fleets), log), fleets


def busiest(times_s: Floats, window_s: float = 1.0) -> int:
    """Return the highest number of times in any window of this length."""
    ordered = np.sort(times_s)
    return int((np.searchsorted(ordered, ordered + window_s, side="left") - np.arange(len(ordered))).max(initial=0))


def _percentiles(times_s: Floats) -> str:
    return "  ".join(f"{value:.2f}" for value in (*np.percentile(times_s, (50, 99)), times_s.max()))


def _spread(loads: Floats) -> str:
    return f"{loads.min():.0f}  {loads.mean():.1f}  {loads.max():.0f}"


def _over(loads: Floats, capacity: int) -> str:
    over = loads[loads > capacity] - capacity
    return f"{len(over)}, by at most {over.max(initial=0):.0f}"


ROWS: tuple[tuple[str, Callable[[Arrangement, Outcome], str]], ...] = (
    ("capacity of a member", lambda case, _: str(case.capacity)),
    ("of all capacity used, before", lambda case, out: f"{out.before.sum() / (len(out.before) * case.capacity):.1%}"),
    ("of all capacity used, after", lambda case, out: f"{out.after.sum() / (out.living * case.capacity):.1%}"),
    ("streams moved", lambda _, out: str(len(out.claimed_s))),
    ("claims in the busiest second", lambda _, out: str(busiest(out.claimed_s))),
    ("claims that another one preceded", lambda _, out: str(out.refused)),
    ("s until owned again: p50, p99, all", lambda _, out: _percentiles(out.claimed_s)),
    ("s until frames are taken: p50, p99, all", lambda _, out: _percentiles(out.opened_s)),
    ("streams of a member before: min, mean, max", lambda _, out: _spread(out.before)),
    ("streams of a member after: min, mean, max", lambda _, out: _spread(out.after)),
    ("members over their capacity before", lambda case, out: _over(out.before, case.capacity)),
    ("members over their capacity after", lambda case, out: _over(out.after, case.capacity)),
    ("s for an append", lambda _, out: f"{out.log.append_s:.3f}"),
    ("frames in an append", lambda _, out: f"{out.log.frames:.1f}"),
    ("share of the frames that the log takes", lambda _, out: f"{out.log.share:.0%}"),
)


def draw(outcomes: list[tuple[Arrangement, Outcome]], path: Path) -> None:
    """Draw when the streams are owned again, and how many each member has; the suffix of `path` selects the format."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "trackd"
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for arrangement, outcome in outcomes:
        times = np.sort(outcome.claimed_s)
        (line,) = left.plot(times, 100 * np.arange(1, len(times) + 1) / len(times), label=arrangement.name)
        left.plot(
            np.sort(outcome.opened_s), 100 * np.arange(1, len(times) + 1) / len(times), "--", color=line.get_color()
        )
        counts = np.arange(int(outcome.after.min()), int(outcome.after.max()) + 1)
        right.step(counts, [(outcome.after == count).sum() for count in counts], where="mid", color=line.get_color())
    left.set(xlabel="s since the rack was lost", ylabel="% of its streams: owned (—), open (- -)", xlim=(0, None))
    right.set(xlabel="streams of a member after it", ylabel="members", ylim=(0, None))
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
    left.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--racks", type=int, default=20)
    parser.add_argument("--fleets", type=int, default=10, help="of the arrangements with several; default 10")
    parser.add_argument("--capacity", type=int, default=64, help="of a member; default 64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    kinds = get_type_hints(Figures)
    for field in fields(Figures):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=kinds[field.name], default=field.default, help=f"default {field.default:g}")
    options = parser.parse_args()
    if not 1 < options.racks <= options.members // options.fleets or options.streams < options.fleets:
        parser.error("each fleet needs a stream, and a member in each of at least two racks")
    return options


def main() -> None:
    options = _arguments()
    figures = Figures(**{field.name: getattr(options, field.name) for field in fields(Figures)})
    left = options.members * (options.racks - 1) // options.racks
    smallest = -(-options.streams // left)
    arrangements = (
        Arrangement("one fleet", 1, options.capacity),
        Arrangement(f"{options.fleets} fleets", options.fleets, options.capacity),
        Arrangement(f"{options.fleets} fleets, nearly full", options.fleets, smallest),
    )
    console = Console()
    outcomes = [
        (each, simulate(each, options.streams, options.members, options.racks, figures, options.seed)[0])
        for each in track(arrangements, "one rack is lost", console=console, transient=True)
    ]
    table = Table(f"{options.streams} streams, {options.members} members, 1 of {options.racks} racks lost", box=None)
    for arrangement, _ in outcomes:
        table.add_column(arrangement.name, justify="right")
    for name, value in ROWS:
        table.add_row(name, *(value(arrangement, outcome) for arrangement, outcome in outcomes))
    console.print(table)
    if options.plot is not None:
        draw(outcomes, options.plot)


if __name__ == "__main__":
    main()
