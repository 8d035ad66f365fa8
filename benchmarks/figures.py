"""A figure in the form that a benchmark prints and run.py keeps, and what became slower since another run.

A figure has the spread of its rounds, so that a later run can tell a change from noise.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from printed_lines import line_of, values_of

_KIND = "figure"  # of its line


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity."""

    what: str
    value: float  # the median of the rounds
    unit: str  # "" for a ratio
    spread: float  # half of the range of the rounds, relative to the median
    more_is_better: bool = False

    @classmethod
    def of(cls, what: str, rounds: ArrayLike, unit: str = "", *, more_is_better: bool = False) -> Figure:
        """Return the figure of a quantity that was measured in each round; of one round the spread is not known."""
        values = np.asarray(rounds, float)
        middle = float(np.median(values))
        spread = float(np.ptp(values)) / 2 / abs(middle) if middle else 0.0
        return cls(what, middle, unit, spread, more_is_better)

    def __str__(self) -> str:
        direction = "more is better" if self.more_is_better else "less is better"
        return line_of(_KIND, self.what, repr(self.value), self.unit, repr(self.spread), direction)


def read_figures(printed: str) -> list[Figure]:
    """Return the figures in a benchmark's output."""
    return [
        Figure(what, float(value), unit, float(spread), direction == "more is better")
        for what, value, unit, spread, direction in values_of(_KIND, 5, printed)
    ]


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of two runs."""

    what: str
    before: Figure
    now: Figure

    @property
    def worse(self) -> float:
        """How much worse it is now: 0.1 for 10 %; below 0 it is better."""
        ratio = self.now.value / self.before.value
        return 1 / ratio - 1 if self.now.more_is_better else ratio - 1

    @property
    def noise(self) -> float:
        """What the rounds of the two runs differ by themselves."""
        return self.now.spread + self.before.spread

    def row(self) -> str:
        """Return the change as a row of a Markdown table."""
        numbers = f"{self.before.value:.4g} | {self.now.value:.4g} {self.now.unit}".rstrip()
        return f"| {self.what} | {numbers} | {self.worse:+.1%} | ±{self.noise:.1%} |"


def slower(before: Iterable[Figure], now: Iterable[Figure]) -> list[Change]:
    """Return the figures that became worse by more than the noise of both runs, worst first."""
    known = {figure.what: figure for figure in before}
    changes = [Change(figure.what, known[figure.what], figure) for figure in now if figure.what in known]
    comparable = [change for change in changes if change.before.value > 0 and change.now.value > 0]
    found = [change for change in comparable if change.worse > change.noise]
    return sorted(found, key=lambda change: -change.worse)


# --- the file of the last run ---


def machine() -> str:
    """Return what tells machines apart: figures of different ones are not compared."""
    model = ""
    if (cpus := Path("/proc/cpuinfo")).exists():
        lines = cpus.read_text(errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {model or platform.processor()}".strip()


def save(path: Path, date: str, figures: Sequence[Figure]) -> None:
    """Write the figures of a run; those of parts that did not run now stay as they are."""
    kept = {figure.what: figure for figure in load(path)[1]}
    kept |= {figure.what: figure for figure in figures}
    rows = [asdict(figure) for figure in kept.values()]
    path.write_text(
        json.dumps({"machine": machine(), "date": date, "figures": rows}, indent=1, ensure_ascii=False) + "\n"
    )


def load(path: Path) -> tuple[str, list[Figure]]:
    """Return the date and the figures of the last run; "" and none where it was on another machine, or never."""
    try:
        stored = json.loads(path.read_text())
        if stored["machine"] != machine():
            return "", []
        return str(stored["date"]), [Figure(**row) for row in stored["figures"]]
    except (OSError, ValueError, KeyError, TypeError):
        return "", []
