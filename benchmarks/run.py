"""`make bench`: every figure of benchmarks/RESULTS.md, each beside the command that makes it.

Runs the parts one after the other and writes what they print. Timings are of this machine; what counts is the ratio
between lines of one run.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
TRACKD = [sys.executable, "-m", "trackd.cli"]

# Title, command, whether it needs the shared recordings.
PARTS: list[tuple[str, list[str], bool]] = [
    ("Step of the `motion` scorer, detections in, ids out, one thread", [sys.executable, "benchmarks/step.py"], True),
    ("Step with a checkpoint, one thread", [sys.executable, "benchmarks/transformer.py"], True),
    ("Closed loop over tcp loopback, boxes only",
     [*TRACKD, "bench", "--closed-loop", "--fps", "inf", "--seconds", "5"], False),
    ("Closed loop with the journal on", [sys.executable, "benchmarks/journal.py"], False),
    ("Eight streams as fast as they go, clients included",
     [*TRACKD, "bench", "--streams", "8", "--fps", "inf", "--seconds", "5"], False),
    ("1080p gray at 60 fps, one stream",
     [*TRACKD, "bench", "--image", "1920x1080", "--fps", "60", "--seconds", "5"], False),
    ("Identity on synthetic and real sets, beside the best peer", [sys.executable, "benchmarks/accuracy.py"], True),
    ("Recordings with ground truth", [sys.executable, "benchmarks/recordings.py"], True),
]  # fmt: skip


def main() -> int:
    console = Console()
    shared = Path(os.environ.get("TRACKD_SHARED", HERE.parent.parent / "shared"))
    environment = {**os.environ, "TRACKD_SHARED": str(shared), "OMP_NUM_THREADS": "1", "COLUMNS": "110"}
    lines = [
        "# Results",
        "",
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')}: {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}.",
    ]
    failed = 0
    for title, command, needs_shared in PARTS:
        console.rule(title)
        if needs_shared and not shared.is_dir():
            console.print(f"left out: no shared recordings at {shared}; set TRACKD_SHARED")
            continue
        done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True)
        console.print(done.stdout, highlight=False, markup=False)
        if done.returncode != 0:
            failed += 1
            console.print(done.stderr, style="red", markup=False)
        shown = " ".join("python" if word == sys.executable else word for word in command)
        lines += ["", f"## {title}", "", f"`{shown.replace('python -m trackd.cli', 'trackd')}`", "", "```"]
        lines += [line.rstrip() for line in (done.stdout or done.stderr).strip().splitlines()] + ["```"]
    RESULTS.write_text("\n".join(lines) + "\n")
    console.print(f"wrote {RESULTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
