"""`trackd journal`: check the journal of a daemon that is stopped, and save what can be saved of a damaged one."""

from __future__ import annotations

from pathlib import Path

from trackd.store.repair import Report, check, repair


def check_journal(state_dir: Path) -> tuple[list[str], bool]:
    """Return the lines of the report, and whether the journal is whole."""
    report = check(state_dir)
    return [*report.lines(), _verdict(report)], report.whole


def repair_journal(state_dir: Path) -> list[str]:
    """Repair a damaged journal; return the lines of the report."""
    report = repair(state_dir)
    lines = list(report.lines())
    if report.kept is None:
        return [*lines, _verdict(report)]
    return [*lines, f"repaired; the damaged files are in {report.kept}"]


def _verdict(report: Report) -> str:
    if report.faults:
        return "damaged; `trackd journal repair` saves what is listed above"
    if not report.whole:
        return "not damaged, but incomplete: each stream that lacks frames begins a new epoch when the daemon starts"
    return "whole: nothing is damaged, and nothing is missing"
