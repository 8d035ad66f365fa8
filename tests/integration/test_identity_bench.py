"""The benchmarks of identity: their sets, their harder variants, and what they count as right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench(shared: Path) -> Callable[[str], ModuleType]:
    """Return the import of a module of the benchmarks, which need the shared recordings."""
    os.environ.setdefault("TRACKD_SHARED", str(shared))
    sys.path.insert(0, str(BENCHMARKS))
    return __import__


def run(shared: Path, *words: str) -> str:
    environment = {**os.environ, "TRACKD_SHARED": str(shared)}
    command = [sys.executable, str(BENCHMARKS / words[0]), *words[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_identity_prints_a_line_of_each_variant_and_its_targets_and_draws_them(shared: Path, tmp_path: Path) -> None:
    picture = tmp_path / "identity.svg"
    variants = ("--variants", "plain", "s3")
    printed = run(
        shared, "identity.py", "wire6", "three_flies", *variants, "--frames", "40", "--no-peers", "--plot", str(picture)
    )
    labels = [line[:22].strip() for line in printed.splitlines() if line[:1] not in ("", " ")]
    assert labels[:3] == ["wire6", "three_flies", "three_flies s3"]
    assert "target | `motion`, defaults, wire6: ids made in 3 seeds | 6, 6, 6 |" in printed
    assert "| peers are not measured | not measured" in printed
    assert "wire6" in picture.read_text(encoding="utf-8")


def test_confidence_prints_the_matches_of_each_set_and_what_each_threshold_flags(shared: Path, tmp_path: Path) -> None:
    picture = tmp_path / "confidence.svg"
    printed = run(
        shared, "confidence.py", "three_flies", "--variants", "plain", "--frames", "40", "--plot", str(picture)
    )
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("three_flies")]
    assert row[1:3] == [str(3 * 39), "0"]
    assert "frames flagged" in printed
    assert "track_scores" in picture.read_text(encoding="utf-8")


def test_an_unknown_set_is_refused_with_the_names_that_there_are(shared: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "identity.py"), "nobody"]
    environment = {**os.environ, "TRACKD_SHARED": str(shared)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no set is named 'nobody'; there are easy, " in done.stderr


def made(bench: Callable[[str], ModuleType], n: int = 4, frames: int = 30):
    """Return a sequence of boxes that stay where they are."""
    places = 100.0 * np.arange(n)[:, None] + np.array([0, 0, 20, 20])
    found = [(np.arange(n) + 1, places)] * frames
    module = bench("identity_sequence")
    return module, module.Sequence.of_truth(found, module.VARIANTS["plain"], np.random.default_rng(0))


def test_every_third_frame_keeps_detections_owners_and_truth_together(bench: Callable[[str], ModuleType]) -> None:
    module, whole = made(bench)
    third = whole.varied(module.VARIANTS["s3"], np.random.default_rng(1))
    assert len(third.boxes) == 10
    assert sorted(set(third.truth[:, 0])) == list(range(1, 11))
    for boxes, owners in zip(third.boxes, third.owners, strict=True):
        assert (boxes[:, 0] == 100 * (owners - 1)).all()


def test_dropped_detections_stay_in_the_truth(bench: Callable[[str], ModuleType]) -> None:
    module, whole = made(bench, frames=100)
    thinned = whole.varied(module.VARIANTS["drop"], np.random.default_rng(1))
    assert len(thinned.truth) == 400
    assert 330 < sum(map(len, thinned.boxes)) < 390
    assert thinned.n_true == 4


def test_a_perfect_result_scores_100_and_two_exchanged_ids_are_two_switches(bench: Callable[[str], ModuleType]) -> None:
    module, whole = made(bench)
    right = whole.truth
    assert module.figures([(whole.truth, right)]) == module.Figures(100, 100, 100, 0, (4,))
    wrong = right.copy()
    late = right[:, 0] > 15
    wrong[late & (right[:, 1] == 1), 1], wrong[late & (right[:, 1] == 2), 1] = 2, 1
    scored = module.figures([(whole.truth, wrong)])
    assert (scored.switches, scored.ids) == (2, (4,))
    assert scored.assa < 90


def test_sequences_are_read_back_from_their_file_and_equal_ones_have_one_digest(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module, whole = made(bench)
    digest = module.save([whole, whole.first(3)], tmp_path / "a.npz")
    (frames, truth), (short, _) = module.load(tmp_path / "a.npz")
    assert (len(frames), len(short)) == (30, 3)
    assert all((boxes == place).all() for (boxes, _), place in zip(frames, whole.boxes, strict=True))
    assert (truth == whole.truth).all()
    assert module.save([whole, whole.first(3)], tmp_path / "b.npz") == digest
    assert module.save([whole, whole.first(4)], tmp_path / "c.npz") != digest


def test_scores_that_are_as_often_right_as_they_say_have_no_calibration_error(
    bench: Callable[[str], ModuleType],
) -> None:
    module = bench("confidence")
    scores, right = np.full(1000, 0.75), np.arange(1000) % 4 != 0
    none = np.empty(0, int)
    honest = module.Matches(scores, right, np.zeros(1000, int), none, np.zeros(1, bool))
    assert module.calibration_error(honest) == pytest.approx(0)
    certain = module.Matches(np.ones(1000), right, np.zeros(1000, int), none, np.zeros(1, bool))
    assert module.calibration_error(certain) == pytest.approx(0.25)


def test_a_track_that_takes_another_object_is_a_wrong_match(bench: Callable[[str], ModuleType]) -> None:
    module = bench("confidence")
    _, whole = made(bench, n=2)
    # From frame 15 on the two objects have each other's place, so that any tracker confuses them.
    swapped = [owners if number < 15 else 3 - owners for number, owners in enumerate(whole.owners)]
    found = module.matches(type(whole)(whole.boxes, whole.scores, swapped, whole.truth))
    assert (len(found.scores), int((~found.right).sum())) == (2 * 29, 2)
    assert set(found.frames[~found.right]) == {15}
    assert list(found.switches) == [15, 15]
