"""Paths and fixtures for all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# This import compiles the tracker if necessary. Otherwise the first daemon of a test would log a line about it.
import trackd.daemon  # noqa: F401

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))  # daemon_process and raw_client, for tests in every folder

# The gate has the same examples in each run, so that its result depends on the code only. A search for new examples:
# pytest tests/unit --hypothesis-profile=explore
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("gate")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and oracles; tests that need it are skipped if it is absent."""
    path = Path(os.environ.get("TRACKD_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared recordings: {path} is absent; set TRACKD_SHARED")
    return path
