"""Pack what a machine with a GPU and without network needs for benchmarks/gpu.py into one file.

    python benchmarks/gpu_bundle.py [--wheels DIR] [--python 3.12] [--out gpu-bundle.tar.gz]

The file has the repository's code and tests, wheels of the packages that the machine may lack, and DREEM's recorded
runs ($TRACKD_SHARED/oracle). Wheels are downloaded into the folder, unless it has some. The machine brings Python,
torch, numpy, numba, scipy and opencv.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from gpu import NEEDED

ROOT = Path(__file__).resolve().parents[1]
BROUGHT = {"numpy", "torch", "numba", "llvmlite", "scipy", "opencv-python-headless"}  # by the machine
WHEELS = sorted(set(NEEDED.values()) - BROUGHT)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "any")
LEFT_OUT = (".svg", ".jpg", ".png", ".gif")
MOST_BYTES = 64 << 20


def download(folder: Path, python: str) -> None:
    """Download wheels for another Python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, "--python-version", python, "-d", str(folder), *WHEELS], check=True)
    for wheel in folder.glob("*.whl"):
        if wheel.name.split("-")[0].lower() in BROUGHT:  # such as numpy, for tifffile
            wheel.unlink()


def code() -> list[Path]:
    """Return the tracked files that the run needs."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    names = [Path(name.decode()) for name in listed.split(b"\0") if name]
    return [
        name for name in names if name.suffix not in LEFT_OUT and name.parts[0] not in ("docs", "deploy", "examples")
    ]


def pack(out: Path, wheels: Path, oracle: Path) -> int:
    """Write the file; return its bytes."""
    files = [(ROOT / name, Path("trackd") / name) for name in code()]
    files += [(path, Path("trackd/wheels") / path.name) for path in sorted(wheels.glob("*.whl"))]
    if oracle.is_dir():
        files += [(path, Path("shared/oracle") / path.relative_to(oracle)) for path in sorted(oracle.rglob("*"))]
    with tarfile.open(out, "w:gz", compresslevel=6) as bundle:
        for path, name in track(files, "packing", transient=True):
            if path.is_file():
                bundle.add(path, str(name))
    return out.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, default=Path("gpu-wheels"))
    parser.add_argument("--python", default="3.12", help="version of the machine's Python")
    parser.add_argument("--out", type=Path, default=Path("gpu-bundle.tar.gz"))
    options = parser.parse_args()
    if not any(options.wheels.glob("*.whl")):
        download(options.wheels, options.python)
    shared = Path(os.environ.get("TRACKD_SHARED", ROOT.parent / "shared"))
    size = pack(options.out, options.wheels, shared / "oracle")
    console = Console()
    console.print(f"wrote {options.out}: {size / 2**20:.1f} MiB")
    if size > MOST_BYTES:
        console.print(f"[red]it has more than {MOST_BYTES / 2**20:.0f} MiB")
        return 1
    console.print("There: tar xf, cd trackd, python3 benchmarks/gpu.py --wheels wheels", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
