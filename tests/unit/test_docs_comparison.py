"""The comparison states facts with their sources, and figures that this repository has measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
PEERS = {
    "trackd, median": "trackd",
    "`trackers`, ByteTrack": "trackers-bytetrack",
    "BoxMOT, SFSORT": "boxmot-sfsort",
    "BoxMOT, ByteTrack": "boxmot-bytetrack",
    "BoxMOT, OC-SORT": "boxmot-ocsort",
    "ultralytics, ByteTrack": "ultralytics-bytetrack",
    "Norfair": "norfair-iou",
    "motpy": "motpy",
    "supervision 0.27, ByteTrack": "sv27-bytetrack",
}


def part_of(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the rows of a page's tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] and not set(row[0]) <= set("- ")]


@pytest.mark.parametrize("row", rows(part_of("Facts")), ids=lambda row: row[0])
def test_each_other_project_has_a_source_for_being_live_and_for_its_licence_and_a_date(row: list[str]) -> None:
    name, live, ids, *_, licence, read = row
    if name == "trackd":
        return
    assert "](https://" in live + ids
    assert "](https://" in licence
    assert re.search(r"20\d\d-\d\d", read), "when the version or commit that was read is from"


def test_all_projects_of_the_page_are_in_a_table_of_facts() -> None:
    named = {row[0] for row in rows(part_of("Facts"))}
    assert {"DREEM", "DeepLabCut-Live", "TRex", "idtracker.ai", "Savant", "Norfair", "motpy", "BoxMOT"} <= named
    assert len(named) == 16


@pytest.mark.parametrize("row", rows(part_of("Speed"))[1:], ids=lambda row: row[0])
def test_a_figure_of_speed_is_in_the_results(row: list[str]) -> None:
    measured = re.search(rf"^{PEERS[row[0]]} +(\S.*)$", RESULTS, re.MULTILINE)
    assert measured is not None
    figures = re.findall(r"[\d.]+", "".join(row[1:]))
    assert figures
    if row[0].startswith("trackd"):
        assert figures == measured[1].split()
    else:
        assert figures == re.findall(r"\( *([\d.]+)\)", measured[1])


def test_the_figures_of_the_daemon_are_in_the_results() -> None:
    text = re.sub(r"\s+", " ", part_of("Speed"))
    stated = re.search(r"waits ([\d.]+) ms .* is ([\d.]+) ms; 8 streams together reach (\d+) frames/s", text)
    assert stated is not None
    loop = re.search(r"^trackd {2,}([\d.]+) ", RESULTS.split("Closed loop over tcp")[1], re.MULTILINE)
    step = re.search(r"^step alone +([\d.]+)", RESULTS, re.MULTILINE)
    assert loop is not None
    assert step is not None
    assert float(stated[1]) == round(float(loop[1]), 2)
    assert float(stated[2]) == round(float(step[1]), 2)
    assert f"{stated[3]} frames/s, 0 lost" in RESULTS
