"""The installed packages: no two distributions install the same module, and each runs on the oldest Python of ours."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
OLDEST_PYTHON = "3.11.0"  # of `requires-python` in pyproject.toml


def test_exactly_one_distribution_provides_cv2() -> None:
    providers = sorted(set(packages_distributions().get("cv2", [])))
    assert len(providers) == 1, (
        f"cv2 must be of one distribution, or the last one installed overwrites the other's files; got {providers}; "
        "run `touch pyproject.toml; make install`, which keeps opencv-python-headless"
    )


def test_each_pinned_version_runs_on_the_oldest_python() -> None:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    checked, refused = 0, []
    for name, version in pins.items():
        try:
            installed = metadata(name)
        except PackageNotFoundError:  # of an extra, or only for other tools
            continue
        if installed["Version"].partition("+")[0] == version.partition("+")[0]:
            checked += 1
            needs = SpecifierSet(installed["Requires-Python"] or "")
            if not needs.contains(OLDEST_PYTHON):
                refused.append(f"{name} {version} needs Python {needs}; pin an older version")
    assert refused == []
    if checked < len(pins) // 2:
        pytest.skip(f"only {checked} of {len(pins)} pinned versions are installed here")
