"""The counts of a member, for the metrics. Only the fleet's thread changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class FleetFigures:
    """Counts since the start of this member."""

    owned: int = 0  # streams that it owns now
    claims: int = 0
    takeovers: int = 0  # claims of streams that another member, or an earlier process, had
    fence_refusals: int = 0  # appends that the store refused, since another member has the stream
    moved: int = 0  # streams that it has handed on
    appends: int = 0
    log_bytes: int = 0
    renewed_s: float = 0.0  # monotonic, of the last renewal of the lease
    observe_append: Callable[[float], None] = lambda seconds: None

    def appended(self, seconds: float, nbytes: int) -> None:
        """Count an append."""
        self.appends += 1
        self.log_bytes += nbytes
        self.observe_append(seconds)
