"""The pictures of docs/concepts.md show what the page says: the values behind them are checked, not the drawings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Draw all pictures in the short form; return their folder, and the values behind them."""
    folder = tmp_path_factory.mktemp("pictures")
    script, values = ROOT / "benchmarks" / "pictures.py", folder / "values.json"
    command = [sys.executable, str(script), "--out", str(folder), "--short", "--json", str(values)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stderr
    return folder, json.loads(values.read_text())


def test_every_picture_of_the_page_is_drawn_and_in_the_docs(made: tuple[Path, dict[str, Any]]) -> None:
    named = re.findall(r"images/(concepts-\w+\.svg)", (ROOT / "docs" / "concepts.md").read_text())
    assert sorted(named) == sorted(path.name for path in made[0].glob("*.svg"))
    for name in named:
        assert (made[0] / name).read_text().rstrip().endswith("</svg>")
        assert (ROOT / "docs" / "images" / name).exists()


def test_a_track_is_lost_in_its_gap_and_ends_at_the_limit_and_the_window_holds_its_last_observations(
    made: tuple[Path, dict[str, Any]],
) -> None:
    run = made[1]["window"]
    assert (run["lost"]["1"], run["found"]["1"]) == ([9], [14])
    assert run["ended"] == {"2": max(run["seen"]["2"]) + run["max_gap"]}
    for track, held in run["held"].items():
        assert held == run["seen"][track][-run["window_size"] :]
    assert "2" not in run["held"]


def test_decay_and_distance_keep_the_ids_in_a_crossing_where_plain_scores_and_iou_swap_them(
    made: tuple[Path, dict[str, Any]],
) -> None:
    runs = made[1]["crossing"]
    assert [(run["setting"].partition(":")[0], run["swapped"]) for run in runs] == [
        ("all off", True), ("decay_time", False), ("iou", True), ("max_center_dist", False),
    ]  # fmt: skip
    for run in runs:
        (right, wrong), (also_wrong, also_right) = run["scores"]
        assert (wrong + also_wrong > right + also_right) is run["swapped"]
    plain = runs[0]["scores"][0]
    assert f"S is {plain[1]:.2f} for the wrong one and {plain[0]:.2f}" in (ROOT / "docs" / "concepts.md").read_text()


def test_ids_last_through_a_contact_in_which_one_animal_is_not_detected(made: tuple[Path, dict[str, Any]]) -> None:
    run = made[1]["contact"]
    first, after = run["hidden"]
    assert after - first == 6
    assert all(row == [0, None] for row in run["ids"][first:after])
    assert all(row == [0, 1] for row in run["ids"][:first] + run["ids"][after:])


def test_after_an_absence_only_a_fixed_number_of_tracks_gives_the_old_id(made: tuple[Path, dict[str, Any]]) -> None:
    last = {run["setting"]: run["ids"][-1] for run in made[1]["absence"]}
    assert last == {"max_gap: 20": [0, 2], "max_tracks: 2": [0, 1], "neither": [0, 2]}


def test_the_stages_of_a_frame_are_within_its_round_trip(made: tuple[Path, dict[str, Any]]) -> None:
    times = made[1]["frame"]
    assert list(times["stages_us"]) == ["queue", "encode", "associate", "journal", "publish"]
    assert all(us >= 0 for us in times["stages_us"].values())
    assert 0 < times["stages_us"]["associate"] < times["total_us"] < times["round_trip_us"]


def test_the_ids_after_a_kill_are_those_of_a_run_without_one(made: tuple[Path, dict[str, Any]]) -> None:
    run = made[1]["restart"]
    assert run["ids"] == run["expected"]
    assert len(run["ids"]) == 24
    assert run["received_s"] == sorted(run["received_s"])
    middle = len(run["ids"]) // 2
    assert run["received_s"][middle - 1] < run["killed_s"] < run["ready_s"] < run["received_s"][middle]
