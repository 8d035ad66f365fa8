"""Places where a test may have the process killed: `TRACKD_CRASH_AT=label:count` dies at the count-th passing."""

from __future__ import annotations

import os
import signal

_LABEL, _, _COUNT = os.environ.get("TRACKD_CRASH_AT", "").partition(":")
_left = {_LABEL: int(_COUNT or "1")} if _LABEL else {}


def crash_point(label: str) -> None:
    """Kill this process with signal 9 if a test asked for it here; else nothing."""
    if label in _left:
        _left[label] -= 1
        if _left[label] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
