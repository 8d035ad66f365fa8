"""A target in the form that a benchmark prints and run.py reads: what, wanted, measured, met."""

from __future__ import annotations

from dataclasses import dataclass

from printed_lines import line_of, values_of

_KIND = "target"  # of its line


@dataclass(frozen=True)
class Target:
    """One line of the table at the top of RESULTS.md."""

    what: str
    wanted: str
    measured: str
    met: bool | None  # None: not measured

    @property
    def verdict(self) -> str:
        return {True: "met", False: "**not met**", None: "not measured"}[self.met]

    def __str__(self) -> str:
        return line_of(_KIND, self.what, self.wanted, self.measured, self.verdict)

    def row(self) -> str:
        """Return the target as a row of a Markdown table."""
        return f"| {self.what} | {self.wanted} | {self.measured} | {self.verdict} |"


def read_targets(printed: str) -> list[Target]:
    """Return the targets in a benchmark's output."""
    verdicts = {"met": True, "**not met**": False, "not measured": None}
    return [
        Target(what, wanted, measured, verdicts[verdict])
        for what, wanted, measured, verdict in values_of(_KIND, 4, printed)
    ]
