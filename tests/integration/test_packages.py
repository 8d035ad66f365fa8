"""Both distributions build without the network, and the installed packages run the demo outside the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from trackd import __version__

ROOT = Path(__file__).parents[2]
LONG_FORM = os.environ.get("TRACKD_SOAK") == "1"
PLACES = {"trackd": ROOT, "trackd_client": ROOT / "clients" / "python"}
pytest.importorskip("hatchling", reason="hatchling is not installed: `make install` installs it")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The wheel of each distribution, built from its unpacked sdist, as an installation from an sdist does."""
    folder = tmp_path_factory.mktemp("dist")
    for name, place in PLACES.items():
        hatch(place, "sdist", folder)
        with tarfile.open(folder / f"{name}-{__version__}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        hatch(folder / f"{name}-{__version__}", "wheel", folder)
    return {name: folder / f"{name}-{__version__}-py3-none-any.whl" for name in PLACES}


def hatch(place: Path, target: str, folder: Path) -> None:
    words = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    result = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


@pytest.mark.parametrize("name", PLACES)
def test_a_wheel_holds_every_file_of_its_package_and_the_licence(name, built):
    with zipfile.ZipFile(built[name]) as archive:
        names = set(archive.namelist())
    package = (ROOT / "daemon" if name == "trackd" else PLACES[name]) / name
    files = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {file for file in files if "__pycache__" not in file} - names == set()
    assert any(file.endswith("licenses/LICENSE") for file in names)
    assert not any(file.startswith("tests") for file in names)


def test_the_configurations_and_service_files_are_data_of_the_wheel(built):
    with zipfile.ZipFile(built["trackd"]) as archive:
        names = {name.partition(".data/data/")[2] for name in archive.namelist()}
    for file in ("configs/daemon.yaml", "configs/inference.yaml", "configs/presets/closed_loop.yaml"):
        assert f"share/trackd/{file}" in names
    assert {"share/trackd/systemd/trackd.service", "share/trackd/prometheus/alerts.yml"} <= names


def test_one_file_holds_the_version_and_trackd_needs_the_client_of_the_same_version(built):
    for wheel in built.values():
        assert f"\nVersion: {__version__}\n" in metadata(wheel)
    assert f"Requires-Dist: trackd-client[recordings]=={__version__}\n" in metadata(built["trackd"])
    assert "Requires-Dist: torch>=2.6\n" in metadata(built["trackd"])
    for path in (*(place / "pyproject.toml" for place in PLACES.values()), ROOT / "daemon/trackd/__init__.py"):
        assert f'"{__version__}"' not in path.read_text()


def test_both_distributions_have_the_same_licence():
    assert (ROOT / "LICENSE").read_bytes() == (PLACES["trackd_client"] / "LICENSE").read_bytes()


@pytest.mark.timeout(900)
def test_the_installed_packages_run_and_in_the_long_form_their_demo(built, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps"]
    subprocess.run([*words, *map(str, built.values())], check=True, capture_output=True, timeout=120)
    # The other packages are those of this environment: they take minutes to install.
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str) -> str:
        result = subprocess.run(
            [str(tmp_path / "venv" / "bin" / command[0]), *command[1:]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    code = "import trackd, trackd_client; print(trackd.__file__, trackd_client.__file__)"
    assert all(path.startswith(str(packages)) for path in run("python", "-c", code).split())
    assert run("trackd", "--version") == run("trackd-client", "--version") == f"{__version__}\n"
    assert (tmp_path / "venv" / "share" / "trackd" / "configs" / "daemon.yaml").exists()
    if LONG_FORM:  # the installed tracker is compiled first, which takes a minute on a slow machine
        assert "IDF1" in run("trackd", "demo", "--out", "demo", "--speed", "max")
        assert (tmp_path / "demo" / "tracked" / "demo.slp").exists()
