"""The processes that run other trackers: those of .venv-peers, one for each package, and any program of answers.py."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
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


class AnsweringProcess:
    """A process that answers questions (answers.py).

    Args:
        command: the program and its arguments.
        stack: ends the process.
        environment: added to this process's.
    """

    def __init__(self, command: Sequence[str | Path], stack: ExitStack, environment: Mapping[str, str]) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
            )
        )
        stack.callback(self._process.kill)

    def ask(self, timeout_s: float, **question: Any) -> dict[str, Any]:
        """Return the answer to a question.

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


class PeerProcess(AnsweringProcess):
    """A process that runs the trackers of one package (peers.py)."""

    def __init__(self, package: str, stack: ExitStack) -> None:
        environment = {"PYTHONPATH": str(PEERS_VENV / "sv27")} if package == SUPERVISION else {}
        super().__init__([PEERS_VENV / "bin" / "python", HERE / "peers.py"], stack, environment)
