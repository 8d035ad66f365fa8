"""Identity on drawn and recorded sets, as they are and made harder, beside the best peer on the same detections.

    TRACKD_SHARED=../shared python benchmarks/identity.py [SET ...] [--variants NAME ...] [--no-peers] [--plot FILE]

trackd is the `motion` scorer with its defaults, online, without images. A set of which no object leaves is tracked a
second time with `max_tracks: N`. Of the peers (`make bench-peers`), each column has the best one: no single peer
reaches all of these. Variants of recordings: every third (s3) or fifth frame (s5), or 10 % of the detections dropped
and 3 % jitter (drop). In each frame the detections are shuffled. Metrics are TrackEval's.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from identity_peers import IdentityPeers, best
from identity_sequence import VARIANTS, Figures, Sequence, figures, table
from identity_sets import SETS
from peer_process import NO_PEERS, NOT_COMPARED, are_installed
from targets import Target
from tracked import tracks

COLUMNS = ("hota", "assa", "idf1")
CODES = {"trackers": "t", "sv27": "s", "norfair": "n", "boxmot": "b", "ultralytics": "u", "motpy": "m"}
LEGEND = (
    "peers: t trackers, s supervision 0.27, n norfair, b boxmot, u ultralytics, m motpy; IDSW is of the best by HOTA"
)
FRAMES = 600  # of a sequence, at most
# HOTA of open sets at the commit before e3e3a16, which made births and returns learnt; by this program.
BEFORE = {
    "hard": 51.1,
    "lowfps": 78.4,
    "receptors": 93.9,
    "airyscan": 69.0,
    "mot17_09": 50.5,
    "mot17_10": 43.9,
    "mot17_09_true": 94.4,
    "mot17_10_true": 95.4,
}
COASTING = ("motpy",)  # it outputs boxes in missed frames, which DetA, and so HOTA, counts as found
ROUNDING = 0.05  # of a percentage


@dataclass(frozen=True, slots=True)
class Result:
    """A set, or one of its variants."""

    name: str
    variant: str
    n_true: int
    open: Figures
    closed: Figures | None  # with `max_tracks` at the number of objects, where it is constant
    peers: dict[str, Figures]

    @property
    def label(self) -> str:
        return self.name if self.variant == "plain" else f"{self.name} {self.variant}"


def measure(name: str, variant: str, sequences: list[Sequence], peers: IdentityPeers | None) -> Result:
    n = SETS[name].n
    return Result(
        name,
        variant,
        sum(each.n_true for each in sequences),
        figures([(each.truth, table(tracks(each))) for each in sequences]),
        None if n is None else figures([(each.truth, table(tracks(each, max_tracks=n))) for each in sequences]),
        {} if peers is None else peers.figures(sequences),
    )


def head(with_peers: bool) -> str:
    columns = f"{'HOTA':>6}{'AssA':>6}{'IDF1':>6}{'IDSW':>6}"
    line = f"{'':22}  {'trackd, defaults':22}{'made/true':>11}     {'max_tracks: N':22}"
    names = f"{'':22}{columns}{'ids':>11}   {columns}"
    if with_peers:
        line += "  best peer of each column"
        names += "".join(f"   {column:17}" for column in ("HOTA", "AssA", "IDF1")) + f"{'IDSW':>6}"
    return f"{line.rstrip()}\n{names}"


def scores(found: Figures | None) -> str:
    if found is None:
        return " " * 24
    return f"{found.hota:6.1f}{found.assa:6.1f}{found.idf1:6.1f}{found.switches:6d}"


def short(peer: str) -> str:
    package, _, name = peer.partition("-")
    return f"{CODES[package]} {name}".strip()


def line(result: Result, with_peers: bool) -> str:
    ids = f"{sum(result.open.ids)}/{result.n_true}"
    text = f"{result.label:22}{scores(result.open)}{ids:>11}   {scores(result.closed)}"
    if with_peers:
        for column in COLUMNS:
            found = best(result.peers, column)
            text += f"  {'–':>18}" if found is None else f"  {found[1]:5.1f} {short(found[0]):12}"
        found = best(result.peers, "hota")
        text += "" if found is None else f"{result.peers[found[0]].switches:6d}"
    return text.rstrip()


def _within(what: str, wanted: str, margins: list[tuple[float, str]], least: float, none: str) -> Target:
    """Return the target that all margins are at least `least`."""
    if not margins:
        return Target(what, wanted, none, None)
    worst, label = min(margins)
    missed = sum(margin < least for margin, _ in margins)
    measured = f"{worst:+.1f} ({label}); {len(margins) - missed} of {len(margins)} sets"
    return Target(what, wanted, measured, missed == 0)


def targets(results: list[Result], before: dict[str, float]) -> list[Target]:
    found = []
    for column, title, least in (("hota", "HOTA", -1.0), ("assa", "AssA", -2.0)):
        for but, without in ((), ""), (COASTING, f" other than {COASTING[0]}"):
            margins = []
            for result in results:
                peer = best(result.peers, column, but)
                if peer is not None:
                    margins.append((getattr(result.open, column) - peer[1], result.label))
            what = f"`motion`, defaults: {title} relative to the best peer{without}, every set and variant"
            wanted = f"≥ −{-least:g}"
            found.append(_within(what, wanted, margins, least - ROUNDING, "peers are not measured"))
    closed = [(result, result.closed) for result in results if result.closed is not None]
    margins = [(result.open.hota - limited.hota, result.label) for result, limited in closed]
    what = "`motion`, closed sets: HOTA of the defaults relative to `max_tracks: N`"
    found.append(_within(what, "≥ −2", margins, -2.0 - ROUNDING, "no closed set"))
    margins = [(limited.hota - result.open.hota, result.label) for result, limited in closed]
    what = "`motion`, closed sets: HOTA of `max_tracks: N` relative to the defaults"
    found.append(_within(what, "≥ 0", margins, -ROUNDING, "no closed set"))
    plain = {result.name: result for result in results if result.variant == "plain"}
    margins = [(plain[name].open.hota - hota, name) for name, hota in before.items() if name in plain]
    what = "`motion`, open sets: HOTA relative to before births were learnt"
    found.append(_within(what, "≥ −0.5", margins, -0.5 - ROUNDING, "no open set"))
    if "wire6" in plain:
        ids = plain["wire6"].open.ids
        made = ", ".join(map(str, ids))
        found.append(Target("`motion`, defaults, wire6: ids made in 3 seeds", "6, 6, 6", made, set(ids) == {6}))
    if "clip_pair_noisy" in plain:
        switches = plain["clip_pair_noisy"].open.switches
        what = "`motion`, defaults, two courting flies (clip_pair), 5 % dropped, 3 % jitter: id switches"
        found.append(Target(what, "0", str(switches), switches == 0))
    return found


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; default: all")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"at most so many of a sequence ({FRAMES})")
    parser.add_argument("--no-peers", action="store_true", help="only trackd")
    parser.add_argument("--minutes", type=float, default=25.0, help="start no peer after this time (25)")
    parser.add_argument("--plot", type=Path, help="draw the figures to this file")
    options = parser.parse_args()
    unknown = [name for name in options.sets if name not in SETS]
    if unknown:
        parser.error(f"no set is named {unknown[0]!r}; there are {', '.join(SETS)}")
    return options


def measured(options: argparse.Namespace, peers: IdentityPeers | None, progress: Progress) -> list[Result]:
    """Measure the sets, and print a line of each when it is done."""
    names = options.sets or list(SETS)
    todo = [(name, variant) for name in names for variant in (options.variants if SETS[name].varied else ["plain"])]
    task = progress.add_task("", total=len(todo))
    results = []
    for name, variant in todo:
        progress.update(task, description=f"{name} {variant}")
        sequences = SETS[name].sequences(variant, options.frames)
        if sequences:
            results.append(measure(name, variant, sequences, peers))
            print(line(results[-1], peers is not None), flush=True)
        progress.advance(task)
    return results


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    options = read_options()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with ExitStack() as stack:
        with_peers = are_installed() and not options.no_peers
        peers = IdentityPeers(stack, 60 * options.minutes) if with_peers else None
        progress = Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
        print(head(with_peers), flush=True)
        with progress:
            results = measured(options, peers, progress)
    if peers is None:
        print("peers left out" if options.no_peers else NO_PEERS)
    else:
        print(f"{LEGEND}\n{NOT_COMPARED}")
        for (peer, why), times in sorted(peers.faults.items()):
            print(f"{peer} is not in {times} of the sets: {why}")
        if peers.left_out:
            print(f"{peers.left_out} sets are without peers, because of --minutes; another run continues with them")
    print()
    for target in targets(results, BEFORE if options.frames == FRAMES else {}):
        print(target)
    if options.plot is not None:
        from identity_plot import draw

        draw(results, options.plot)


if __name__ == "__main__":
    main()
