"""Places before the device's work where a test can make the device fail.

`TRACKD_DEVICE_FAULT=label:count:kind:times`: from the count-th time that the place of this label is reached, the next
`times` (1 by default) of its visits raise what torch raises. With the kind `memory` the device's memory is full. With
`lost` the device is lost: every later visit of any place fails too. The labels: `encode` (a pass of crops), `score` (a
pass of the transformer), `update` (features are written to the window), `copy` (features return for the journal), and
`probe` (whether the device still answers).
"""

from __future__ import annotations

import os

_WORDS = os.environ.get("TRACKD_DEVICE_FAULT", "").split(":")
ARMED = bool(_WORDS[0])  # callers check it first


class _Plan:
    """What is to fail, and how often it was reached."""

    def __init__(self, label: str, count: str = "1", kind: str = "memory", times: str = "1") -> None:
        self.label, self.first, self.kind = label, int(count), kind
        self.last = self.first + int(times)  # exclusive
        self.visits = 0
        self.lost = False

    def visit(self, label: str) -> None:
        import torch

        self.visits += label == self.label
        due = label == self.label and self.first <= self.visits < self.last
        if self.lost or (due and self.kind == "lost"):
            self.lost = True
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        if due:
            raise torch.OutOfMemoryError(f"CUDA out of memory: staged at {label}")


_plan = _Plan(*_WORDS) if ARMED else None


def device_point(label: str) -> None:
    """Raise the failure that a test asked for here; else do nothing."""
    if _plan is not None:
        _plan.visit(label)
