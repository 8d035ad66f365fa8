"""Capture times that cannot be nanoseconds: negative ones, and the present time in another unit."""

from __future__ import annotations

import time
from collections.abc import Callable

SURELY_NS = 10**17  # 1973 in nanoseconds; the present time has fewer digits in every larger unit
_NEAR_NS = 24 * 3600 * 10**9  # the host that took the frame may have another clock
_STEP_NS = 3600 * 10**9
_UNITS = {"seconds": 10**9, "milliseconds": 10**6, "microseconds": 10**3}


def capture_time_fault(
    t_ns: int, last_t_ns: int | None = None, clock_ns: Callable[[], int] = time.time_ns
) -> str | None:
    """Return why `t_ns` cannot be a capture time in nanoseconds, or None if it can be one.

    Times that count from any other moment than 1970 are accepted, as those of a recording or of a camera's own clock.

    Args:
        t_ns: the capture time.
        last_t_ns: that of the stream's last valid frame. A time within an hour of it has the same unit.
        clock_ns: the present time, Unix ns.
    """
    if t_ns >= SURELY_NS:
        return None
    if t_ns < 0:
        return f"t_ns must be nanoseconds since 1970 UTC, from 0 to 2**63 - 1; got {t_ns}"
    if last_t_ns is not None and abs(t_ns - last_t_ns) < _STEP_NS:
        return None
    now_ns = clock_ns()
    for unit, unit_ns in _UNITS.items():
        if abs(t_ns * unit_ns - now_ns) < _NEAR_NS:
            return (
                f"t_ns must be nanoseconds since 1970 UTC, as time.time_ns() returns; got {t_ns}, the present time in "
                f"{unit}: multiply it by {unit_ns}"
            )
    return None
