"""Whose turn it is: the IO thread's or the engine's."""

from __future__ import annotations

import threading
from types import TracebackType


class Turn:
    """A lock that two threads have in turns: who waits for it is next, whatever the other does.

    Both work in Python most of the time, so the interpreter lets only one run; and at each call of ZeroMQ, of which a
    message takes several, it lets the other in. Two that take turns at whole pieces of work lose less time.
    """

    def __init__(self) -> None:
        self._next = threading.Lock()  # held by who waits
        self._now = threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._now.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._now.release()
