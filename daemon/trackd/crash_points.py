"""Places in the code where a test can kill the process.

`TRACKD_CRASH_AT=label:count` kills it when the place of this label is reached for the count-th time. The labels, in the
order in which a frame reaches them: `before_receive`, `after_receive` (the frame is queued), `before_journal`,
`before_snapshot`, `in_snapshot`, `before_trim`, `after_trim` (rows are written and deleted, and nothing is committed),
`before_head` (the frame is committed), `after_snapshot`, `after_journal`, `before_publish`, `after_publish`,
`before_ack`, `after_ack`. `before_fold` and `after_fold` are around the checkpoint of the write-ahead log.

Of a stream's looks: `before_looks` (the new file is written beside the old one) and `after_looks` (it has replaced it).

In a fleet: `before_claim`, `after_claim` (the stream is claimed, and nothing of it is read), `after_read`.

Of a stream's outputs: `after_output_open` (its files exist), `before_rewrite` and `after_rewrite` (a table gets columns
for nodes), `after_output` (one file has the frame), `before_position` and `after_position` (how far the files are
written is stored), `before_finish`, `during_finish` (the finished file does not have its name yet), `after_finish` (it
has, and the part is not deleted), `before_position_removed`.

Failures of a checkpoint's device are in `device_points.py`.
"""

from __future__ import annotations

import os
import signal

_LABEL, _, _COUNT = os.environ.get("TRACKD_CRASH_AT", "").partition(":")
_left = {_LABEL: int(_COUNT or "1")} if _LABEL else {}
ARMED = bool(_LABEL)  # callers check it first on the path of every frame


def crash_point(label: str) -> None:
    """Kill this process with SIGKILL, after a line on stderr, if a test asked for that here; else do nothing."""
    if label in _left:
        _left[label] -= 1
        if _left[label] <= 0:
            os.write(2, f"killed at {label}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
