"""Runs peer trackers for step.py, in the Python of .venv-peers; it reads and writes lines of JSON.

    .venv-peers/bin/python benchmarks/peers.py < questions

A question is `{"peer", "n", "frames", "budget_s"}`, an answer `{"times_ms"}` or `{"error"}`. The adapters are those of
`$TRACKD_SHARED/peers/bench_peers.py`: only the update call is timed, with the peer's own input type and defaults.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(sys.prefix) / "settings"))
os.environ.setdefault("MPLCONFIGDIR", str(Path(sys.prefix) / "settings"))
Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)

sys.path.insert(0, str(Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve() / "peers"))

import bench_peers  # noqa: E402
import gen  # noqa: E402
import numpy as np  # noqa: E402


@functools.cache
def scenes(n: int, frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return boxes and scores of each frame, the same as in step.py."""
    return [(frame.boxes, frame.scores) for frame in gen.generate(n, frames, seed=1, level="default").frames]


def answer(question: dict[str, object]) -> dict[str, object]:
    try:
        frames = scenes(int(question["n"]), int(question["frames"]))
        _, times = bench_peers.run(str(question["peer"]), frames, float(question["budget_s"]))
        return {"times_ms": list(times)}
    except Exception as error:  # a peer that fails is a result, not a reason to stop
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps the peers' own output out of the answers
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
