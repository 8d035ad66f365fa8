"""Runs peer trackers for step.py and identity.py, in the Python of .venv-peers; it reads and writes lines of JSON.

    .venv-peers/bin/python benchmarks/peers.py < questions

A question for the time of a frame is `{"peer", "n", "frames", "budget_s"}`, its answer `{"times_ms"}`. A question for
the scores on the sequences of a file is `{"peer", "file", "budget_s"}`, its answer `{"figures"}`. An answer may be
`{"error"}`. The adapters are those of `$TRACKD_SHARED/peers/bench_peers.py`: only the update call is timed, with the
peer's own input type and defaults.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(sys.prefix) / "settings"))
os.environ.setdefault("MPLCONFIGDIR", str(Path(sys.prefix) / "settings"))
Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)

sys.path.insert(0, str(Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve() / "peers"))

import bench_peers  # noqa: E402
import gen  # noqa: E402
import numpy as np  # noqa: E402

import identity_sequence  # noqa: E402
from answers import answer_all  # noqa: E402


@functools.cache
def scenes(n: int, frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return boxes and scores of each frame, the same as in step.py."""
    return [(frame.boxes, frame.scores) for frame in gen.generate(n, frames, seed=1, level="default").frames]


def times(peer: str, n: int, frames: int, budget_s: float) -> list[float]:
    """Return the time of each update, ms."""
    return list(bench_peers.run(peer, scenes(n, frames), budget_s)[1])


def figures(peer: str, file: str, budget_s: float) -> dict[str, Any]:
    """Return the peer's scores on the sequences of a file; `budget_s` is for each sequence."""
    pairs = []
    for frames, truth in identity_sequence.load(Path(file)):
        found, _ = bench_peers.run(peer, frames, budget_s)
        if len(found) < len(frames):
            raise TimeoutError(f"{len(found)} of {len(frames)} frames in {budget_s:.0f} s")
        pairs.append((truth, identity_sequence.table(found)))
    return asdict(identity_sequence.figures(pairs))


def answer(**question: Any) -> dict[str, Any]:
    return {"figures": figures(**question)} if "file" in question else {"times_ms": times(**question)}


if __name__ == "__main__":
    answer_all(answer)
