"""Fixtures of the roles."""

from __future__ import annotations

import pytest
from dreem_user import SHARED, User


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """A DREEM user with recordings and checkpoints; tests that need one are skipped if these are absent."""
    absent = [name for name in ("data", "oracle", "dreem_yaml") if not (SHARED / name).is_dir()]
    if absent:
        pytest.skip(
            f"no recordings and checkpoints of DREEM's users: {SHARED / absent[0]} is absent; set TRACKD_SHARED"
        )
    return User(tmp_path_factory.mktemp("dreem"))
