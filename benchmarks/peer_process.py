"""The processes that run peer trackers, one for each package, in the Python of .venv-peers."""

from __future__ import annotations

import json
import os
import select
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS_VENV = HERE.parent / ".venv-peers"
NO_PEERS = "no peers: `make bench-peers` installs them"
NOT_COMPARED = (
    "not compared: boxmot's C++ trackers (pip installs their source; a build needs Eigen and OpenCV's headers), "
    "laptrack (offline)"
)
BYTETRACK = "trackers-bytetrack"
SUPERVISION = "supervision 0.27"
PACKAGES: dict[str, tuple[str, ...]] = {
    "trackers": (BYTETRACK, "trackers-sort", "trackers-ocsort", "trackers-botsort", "trackers-cbiou"),
    SUPERVISION: ("sv27-bytetrack",),
    "norfair": ("norfair-iou",),
    "boxmot": ("boxmot-sfsort", "boxmot-bytetrack", "boxmot-ocsort", "boxmot-botsort", "boxmot-boosttrack"),
    "ultralytics": tuple(
        f"ultralytics-{name}" for name in ("bytetrack", "botsort", "ocsort", "fasttrack", "tracktrack")
    ),
    "motpy": ("motpy",),
}


def are_installed() -> bool:
    return (PEERS_VENV / "bin" / "python").exists()


class PeerProcess:
    """A process that runs the trackers of one package (peers.py)."""

    def __init__(self, package: str, stack: ExitStack) -> None:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        if package == SUPERVISION:
            environment["PYTHONPATH"] = str(PEERS_VENV / "sv27")
        self._process = stack.enter_context(
            subprocess.Popen(
                [PEERS_VENV / "bin" / "python", HERE / "peers.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        )
        stack.callback(self._process.kill)

    def ask(self, timeout_s: float, **question: Any) -> dict[str, Any]:
        """Return the answer to a question of peers.py.

        Raises:
            RuntimeError: the peer cannot be imported, failed, or gave no answer in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                self._process.kill()  # otherwise its late answer would be read as the next one
            answer = json.loads(self._process.stdout.readline() or '{"error": "its process ended"}')
        except OSError as error:
            answer = {"error": str(error)}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
