"""`make bench`: every figure of benchmarks/RESULTS.md, each with the command that makes it, and the targets on top.

    python benchmarks/run.py [--full] [--only WORD ...] [--out FILE]

Runs the parts one after the other and writes their output. Says what became slower since the last run on this machine
(figures.json) by more than the noise of both. Timings are those of this machine; compare the ratios between lines of
one run. A part prints its targets and whether they are met, in the format of targets.py.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from figures import Change, Figure, load, read_figures, save, slower
from targets import Target, read_targets

HERE = Path(__file__).parent
LAST = HERE / "figures.json"  # of the last run
PART_S = 1800.0  # time limit of a part


class Part(NamedTuple):
    """A section of the results."""

    title: str
    command: str  # run in the repository's root; `python` is this interpreter
    needs_shared: bool = False  # whether it reads $TRACKD_SHARED
    picture: str = ""  # a file that it writes, in the folder of RESULTS.md
    full: str = ""  # the command with --full


PARTS: tuple[Part, ...] = (
    Part(
        "Step of the `motion` scorer compared with its peers, from detections to ids, one thread",
        "python benchmarks/step.py --plot benchmarks/latency.svg",
        needs_shared=True,
        picture="latency.svg",
    ),
    Part("Step where all boxes are at one place, by option, one thread", "python benchmarks/crowds.py"),
    Part("Step with a checkpoint, one thread", "python benchmarks/transformer.py"),
    Part("DREEM itself beside trackd, on one recording", "python benchmarks/beside_dreem.py", needs_shared=True),
    Part("Transformer step compared with torch's own layers, one thread", "python benchmarks/layers.py"),
    Part("Visual encoder compared with torch's own modes", "python benchmarks/encoder.py"),
    Part(
        "Features that are used again: `encode_every`, one thread",
        "python benchmarks/encode_every.py",
        needs_shared=True,
    ),
    Part("Closed loop over tcp loopback, boxes only", "python benchmarks/closed_loop.py"),
    Part("Closed loop with the journal on", "python benchmarks/journal.py"),
    Part("Messages of trigger rules behind `tracks`, on loopback", "python benchmarks/triggers.py"),
    Part("Eight streams at full rate, clients included", "python benchmarks/sustained.py"),
    Part("Two daemons on one machine, and one set of endpoints before them", "python benchmarks/workers.py"),
    Part("Closed loop and eight streams beside open pages of the viewer", "python benchmarks/viewer.py"),
    Part("1080p gray, one stream, with appearance", "python benchmarks/images.py"),
    Part(
        "Resident memory while tracks begin and end",
        "python benchmarks/memory.py",
        full="python benchmarks/memory.py 200000",
    ),
    Part("What a stream costs", "python benchmarks/stream_cost.py"),
    Part("A fleet on this machine, beside one daemon", "python benchmarks/fleet.py"),
    Part("The store of a fleet, on this machine", "python benchmarks/fleet_log.py"),
    Part(
        "A lost rack, simulated",
        "python benchmarks/fleet_simulation.py --plot benchmarks/fleet_simulation.svg",
        picture="fleet_simulation.svg",
    ),
    Part(
        "Identity on drawn and recorded sets, compared with the best peer",
        "python benchmarks/identity.py --plot benchmarks/identity.svg",
        needs_shared=True,
        picture="identity.svg",
    ),
    Part(
        "A fixed number of objects and false detections",
        "python benchmarks/false_detections.py",
        needs_shared=True,
    ),
    Part(
        "Scores and flags, compared with right and wrong matches",
        "python benchmarks/confidence.py --plot benchmarks/confidence.svg",
        needs_shared=True,
        picture="confidence.svg",
    ),
    Part(
        "Exchanged ids, corrected by what the animals look like", "python benchmarks/identities.py", needs_shared=True
    ),
    Part("Recordings with ground truth", "python benchmarks/recordings.py", True),
)


def run(command: str, environment: dict[str, str]) -> tuple[str, bool]:
    """Return a part's output, or why it failed, and whether it succeeded."""
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    try:
        done = subprocess.run(words, cwd=HERE.parent, env=environment, capture_output=True, text=True, timeout=PART_S)
    except subprocess.TimeoutExpired:
        return f"stopped after {PART_S:.0f} s", False
    succeeded = done.returncode == 0
    return done.stdout if succeeded else f"{done.stdout}\n{done.stderr}", succeeded


def section(part: Part, command: str, printed: str) -> list[str]:
    """Return a part as Markdown, without its targets, which are in the table on top, and its figures."""
    kept = [line.rstrip() for line in printed.splitlines() if not (read_targets(line) or read_figures(line))]
    lines = ["", f"## {part.title}", "", f"`{command}`", "", "```", *"\n".join(kept).strip("\n").splitlines(), "```"]
    return [*lines, "", f"![{part.title}]({part.picture})"] if part.picture else lines


def summary(found: list[tuple[Target, str]]) -> list[str]:
    """Return the table of the targets."""
    rows = [f"{target.row()} `{command.removeprefix('python benchmarks/')}` |" for target, command in found]
    return ["", "| target | wanted | measured | | command |", "| --- | --- | --- | --- | --- |", *rows] if rows else []


def compared(date: str, changes: list[Change]) -> list[str]:
    """Return what became slower since the last run, as Markdown."""
    if not date:
        return ["", "There is no earlier run on this machine to compare with."]
    if not changes:
        return ["", f"Compared with the run of {date}, nothing became slower by more than the noise of both runs."]
    head = ["", f"Slower than in the run of {date}, by more than the noise of both runs:", ""]
    table = ["| figure | then | now | worse by | noise |", "| --- | --- | --- | --- | --- |"]
    return [*head, *table, *(change.row() for change in changes)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="memory over 200,000 frames")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only parts with one of these words in their command")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    console = Console()
    shared = Path(os.environ.get("TRACKD_SHARED", HERE.parent.parent / "shared"))
    environment = {**os.environ, "TRACKD_SHARED": str(shared), "OMP_NUM_THREADS": "1", "COLUMNS": "110"}
    head = [
        "# Results",
        "",
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')}: {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; load average {os.getloadavg()[0]:.1f} at the start.",
    ]
    found: list[tuple[Target, str]] = []
    figures: list[Figure] = []
    lines: list[str] = []
    failed = 0
    parts = [part for part in PARTS if not options.only or any(word in part.command for word in options.only)]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("bench", total=len(parts))
        for part in parts:
            progress.update(task, description=part.title)
            console.rule(part.title)
            if part.needs_shared and not shared.is_dir():
                console.print(f"skipped: no shared recordings at {shared}; set TRACKD_SHARED")
            else:
                command = (options.full and part.full) or part.command
                printed, succeeded = run(command, environment)
                failed += not succeeded
                console.print(printed, highlight=False, markup=False, style=None if succeeded else "red")
                lines += section(part, command, printed)
                found += [(target, command) for target in read_targets(printed)]
                figures += read_figures(printed)
            progress.advance(task)
    date, before = load(LAST)
    changes = slower(before, figures)
    save(LAST, time.strftime("%Y-%m-%d"), figures)
    against = compared(date, changes)
    console.print(*against, sep="\n", highlight=False, style="red" if changes else None)
    options.out.write_text("\n".join([*head, *against, *summary(found), *lines]) + "\n")
    console.print(f"wrote {options.out}: {sum(target.met is True for target, _ in found)} of {len(found)} targets met")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
