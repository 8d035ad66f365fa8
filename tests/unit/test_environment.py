"""The installed packages: no two distributions install the same module."""

from __future__ import annotations

from importlib.metadata import packages_distributions


def test_exactly_one_distribution_provides_cv2() -> None:
    providers = sorted(set(packages_distributions().get("cv2", [])))
    assert len(providers) == 1, (
        f"cv2 must be of one distribution, or the last one installed overwrites the other's files; got {providers}; "
        "run `touch pyproject.toml; make install`, which keeps opencv-python-headless"
    )
