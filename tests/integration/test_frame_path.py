"""The path of one frame stays short: a reader has to follow it, and every call of it costs time in every frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "frame_path.py"
LIMITS = {"files": 28, "calls": 146, "values": 10}


def test_a_frame_of_two_boxes_enters_few_files_by_few_calls_and_becomes_few_values() -> None:
    result = subprocess.run(
        [sys.executable, str(BENCHMARK), "--frames", "9"], capture_output=True, text=True, timeout=120, check=True
    )
    medians = {}
    for line in result.stdout.splitlines():
        name, _, rest = line.partition(" ")
        if name in LIMITS:
            medians[name] = float(rest.split()[1].rstrip(","))
    assert medians.keys() == LIMITS.keys(), result.stdout
    for name, limit in LIMITS.items():
        assert 0 < medians[name] <= limit, result.stdout
