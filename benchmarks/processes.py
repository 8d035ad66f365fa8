"""The child process that a context manager starts: its memory and its CPU time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import psutil

T = TypeVar("T")


@contextmanager
def watched(starting: AbstractContextManager[T]) -> Iterator[tuple[T, psutil.Process]]:
    """Enter `starting`; yield its value and the one child process that it starts."""
    known = {child.pid for child in psutil.Process().children()}
    with starting as started:
        (process,) = [child for child in psutil.Process().children() if child.pid not in known]
        yield started, process


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process so far: all threads, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)
