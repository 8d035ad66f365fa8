"""Places where a test may have the process killed: `TRACKD_CRASH_AT=label:count` dies at the count-th passing.

The labels, in a frame's order: `before_receive`, `after_receive` (it is taken in and queued), `before_journal`,
`before_snapshot`, `before_trim`, `after_trim` (rows are written or gone, and nothing is committed), `after_snapshot`,
`after_journal` (it is committed), `before_publish`, `after_publish`, `before_ack`, `after_ack`; and `before_fold`,
`after_fold` around the folding of the write-ahead log.
"""

from __future__ import annotations

import os
import signal

_LABEL, _, _COUNT = os.environ.get("TRACKD_CRASH_AT", "").partition(":")
_left = {_LABEL: int(_COUNT or "1")} if _LABEL else {}
ARMED = bool(_LABEL)  # callers check it first on the path of every frame


def crash_point(label: str) -> None:
    """Kill this process with signal 9 if a test asked for it here, and say so on stderr; else nothing."""
    if label in _left:
        _left[label] -= 1
        if _left[label] <= 0:
            os.write(2, f"killed at {label}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
