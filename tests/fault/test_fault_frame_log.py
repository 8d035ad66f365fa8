"""A kill at each step of the frame log: what was stored is there, once, and nothing else is said to be missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_tools import rounds

from trackd.store.database import Database
from trackd.store.repair import check

WRITER = Path(__file__).with_name("log_writer.py")
LABELS = [
    "before_append", "after_append", "before_move", "in_move", "before_head", "after_move", "after_segment_created",
    "before_segment_deleted", "after_segment_deleted",
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_after_kills_at_a_step_of_the_log_all_that_was_stored_is_there(tmp_path, label):
    stored = -1
    for count in range(1, rounds(2, 12) + 1):
        env = {**os.environ, "TRACKD_CRASH_AT": f"{label}:{count}"}
        result = subprocess.run(
            [sys.executable, str(WRITER), str(tmp_path), "200"], env=env, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert f"killed at {label}" in result.stderr
        stored = max([stored, *map(int, result.stdout.split())])
        assert check(tmp_path).whole
        database = Database(tmp_path / "journal.sqlite", False, 1 << 30, 1000)
        (cam,) = database.streams()
        database.close()
        assert cam.hole is None
        seqs = [record.seq for record in cam.frames]
        assert seqs == list(range(len(seqs)))
        assert seqs[-1:] in ([], [stored], [stored + 1])  # the frame in work may be stored already
        assert len(seqs) > stored
        assert all((record.body["boxes"] == record.seq % 256).all() for record in cam.frames)
